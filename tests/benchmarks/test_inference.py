import argparse
import io
import sys

import numpy as np
import pytest
import torch
from helpers.benchmarks import load_benchmark
from helpers.model_folder import write_model_folder
from PIL import Image

from wsd_distill.tagging import Tagger


@pytest.fixture(scope="module")
def benchmark():
    return load_benchmark("inference")


@pytest.fixture
def tagger(tmp_path):
    return Tagger.load(write_model_folder(tmp_path / "model"))


def test_rows_of_both_batch_sizes(benchmark, tagger, tmp_path):
    photos = [path.read_bytes() for path in sys.modules["turns"].write_photos(tmp_path, 5)]
    run = benchmark["make_tagger"](tagger)
    runs = {benchmark["ONNX"]: run, benchmark["PLAIN"]: run}
    for batch in (1, 2):
        ours, plain = benchmark["compare"](runs, photos, batch, 1)
        assert (ours[0], ours[1], plain[0]) == (benchmark["ONNX"], batch, benchmark["PLAIN"])
        assert ours[4] * ours[3] == pytest.approx(1000 * batch)  # photos/s * ms of a batch
        assert plain[5:7] == [1.0, 1.0] and plain[8] == 1.0
        assert len(ours) == len(benchmark["HEADERS"]) == len(benchmark["FORMATS"])


def test_the_plain_network_gets_normalized_pixels(benchmark, tagger, monkeypatch):
    seen = []
    network = lambda x: seen.append(x) or torch.tensor([[-1.0, 2, 3]])  # noqa: E731
    monkeypatch.setitem(benchmark["make_plain"].__globals__, "build_plain", lambda *_: network)
    read, compute = benchmark["make_plain"]("vgg16", tagger)
    file = io.BytesIO()
    Image.fromarray(np.full((20, 30, 3), 255, np.uint8)).save(file, "png")
    assert compute([read(file.getvalue())]) == [[0, 1], [0, 2]]
    assert seen[0].shape == (1, 3, 16, 16)
    torch.testing.assert_close(seen[0][0, :, 0, 0], torch.tensor([(1 - 0.485) / 0.229, 2.428571, 2.64]))


def test_the_loop_of_predict(benchmark, tagger, tmp_path):
    sys.modules["turns"].write_photos(tmp_path, 3)
    arguments = argparse.Namespace(batch_sizes=[2], workers=[1, 2], rounds=1)
    _, _, *rows = benchmark["measure_loop"](tagger, str(tmp_path), arguments).splitlines()
    found = [[float(cell) for cell in row.split("|")[1:-1]] for row in rows]
    assert [row[:2] for row in found] == [[2, 1], [2, 2]] and all(row[2] > 0 and row[3] > 0 for row in found)
