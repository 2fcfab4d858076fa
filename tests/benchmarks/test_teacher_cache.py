import argparse

import pytest
from helpers.benchmarks import load_benchmark

NAMES = load_benchmark("teacher_cache")


def test_bytes_of_both_formats(tmp_path):
    """Old: 16 x 4 x 4 values of 2 bytes and 2 x 5 x 3 of 4, and a header of 128 for each of two files."""
    sizes = {"size": 64, "stride": 16, "channels": 16, "proposals": 5, "classes": 3, "images": 6}
    found = NAMES["measure"](argparse.Namespace(**sizes, folder=str(tmp_path)), zeros=0.9)
    assert found["old"] == pytest.approx(16 * 16 * 2 + 2 * 5 * 3 * 4 + 2 * 128 / 6)
    assert 0 < found["new map"] < 16 * 16 and found["index"] == pytest.approx(2 * (24 + 192 / 6), abs=2 * 64 / 6)
    assert not list(tmp_path.iterdir())
