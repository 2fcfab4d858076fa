from pathlib import Path

import pytest
from helpers.benchmarks import load_benchmark

benchmark = load_benchmark("data_loading")


@pytest.fixture
def dicts(tmp_path):
    return benchmark["dataset_dicts"](benchmark["write_photos"](tmp_path / "photos", (60, 40), crops=1))


def test_photos_have_the_given_size_and_are_reproducible(dicts, tmp_path):
    assert [(record["width"], record["height"]) for record in dicts] == [(60, 40)] * 5
    again = benchmark["write_photos"](tmp_path / "again", (60, 40), crops=1)
    assert [path.read_bytes() for path in again] == [Path(record["file_name"]).read_bytes() for record in dicts]


def test_mappers_take_turns_and_read_every_image_in_each_round(dicts):
    calls = []
    mappers = [lambda record: calls.append(("a", record["image_id"])), lambda record: calls.append(("b", -1))]
    assert benchmark["measure_rates"](mappers, dicts, rounds=2).shape == (2, 2)
    assert calls == ([("a", i) for i in range(5)] + [("b", -1)] * 5) * 3


def test_row_has_rates_ratio_and_pixel_difference(dicts):
    name, images, size, ours, theirs, ratio, mean, high = benchmark["row"]("small", dicts, 10, rounds=1)
    assert (name, images, size) == ("small", 5, 10)
    assert ratio == pytest.approx(ours / theirs)
    assert 0 < mean < high < 128  # decoded at 1/4
