"""The command ``wsd predict`` with a model folder, as a user runs it."""

import json
import os
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from helpers.model_folder import CLASSES, SIZE, random_weights, write_model_folder
from helpers.running import ENVIRONMENT
from PIL import Image

from wsd_distill.cli import main

PROGRAM = """
import sys
from wsd_distill.cli import main

code = main()
print(*[name for name in ("torch", "detectron2", "pyarrow", "scipy") if name in sys.modules], file=sys.stderr)
sys.exit(code)
"""


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Folder with five photos of noise of the size of the input, and a model folder."""
    monkeypatch.chdir(tmp_path)
    write_model_folder(tmp_path / "model")
    (tmp_path / "photos").mkdir()
    for i in range(5):
        pixels = np.random.default_rng(i).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{i}.png")
    return tmp_path / "photos"


def expected_probabilities(path):
    """The network, computed by PyTorch."""
    weights = {name: torch.from_numpy(value) for name, value in random_weights().items()}
    pixels = torch.from_numpy(np.array(Image.open(path))).float().permute(2, 0, 1)[None]
    features = torch.nn.functional.conv2d(pixels, weights["conv"]).relu().mean(dim=(2, 3))
    return (1.5 * (features @ weights["linear"]) + 0.25).sigmoid()[0].numpy()


def test_a_file_has_the_probabilities_of_the_network(photos, capsys):
    assert main(["predict", "model", "photos", "--out", "tags.parquet", "--all", "--batch-size", "2"]) == 0
    rows = pq.read_table("tags.parquet").to_pylist()
    assert [row["file"] for row in rows] == [f"photos/{i}.png" for i in range(5)]
    given = 0
    for row in rows:
        p = expected_probabilities(row["file"])
        assert row["all"] == pytest.approx(p, abs=2e-6)
        labels = [CLASSES[k] for k in np.argsort(-p) if p[k] >= (0.5, 0.4, 0.6)[k]]
        assert row["labels"] == labels
        given += len(labels)
    assert 0 < given < 15  # some of the labels
    assert main(["predict", "model", "photos", "--out", "tags.parquet"]) == 2
    assert "wsd predict: error: tags.parquet exists: use --overwrite" in capsys.readouterr().err


def test_a_broken_photo_is_an_error_of_one_line_or_skipped(photos, capsys):
    (photos / "3.png").write_bytes((photos / "3.png").read_bytes()[:300])
    assert main(["predict", "model", "photos", "--out", "tags.csv"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("wsd predict: error: photos/3.png cannot be read as an image (")
    assert line.endswith(". --on-error skip goes on without it")
    assert main(["predict", "model", "photos", "--out", "tags.csv", "--on-error", "skip"]) == 1
    assert capsys.readouterr().err.startswith("5 photos, 1 could not be read\n  photos/3.png cannot be read")
    for arguments, message in (
        (["none", "photos"], "none has no config.json"),
        (["model", "gone.jpg"], "gone.jpg does not exist"),
        (["model", "photos", "--out", "a.txt"], "a.txt: unknown suffix '.txt'"),
    ):
        assert main(["predict", *arguments]) == 2
        assert f"wsd predict: error: {message}" in capsys.readouterr().err


def test_one_photo_imports_neither_torch_nor_detectron2_nor_pyarrow(photos):
    command = [sys.executable, "-c", PROGRAM, "predict", "model", "photos/0.png"]
    done = subprocess.run(command, env={**os.environ, **ENVIRONMENT}, capture_output=True, text=True, check=True)
    assert done.stderr.split() == []
    assert json.loads(done.stdout)["file"] == "photos/0.png"
