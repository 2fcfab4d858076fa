"""``wsd export`` of a run of tools/train_net.py."""

import json

import pytest
from helpers.running import in_process
from PIL import Image

from wsd_distill import Tagger
from wsd_distill.cli import main


@pytest.fixture
def run(tmp_path, restore_catalogs):
    """A run of two iterations on red and blue photos."""
    rows = []
    for i in range(24):
        name = "red" if i % 2 else "blue"
        Image.new("RGB", (40, 30), name).save(tmp_path / f"{i}.jpg")
        rows.append(f"{i}.jpg,{name},{('train', 'val', 'test')[i // 2 % 3]}")
    (tmp_path / "tags.csv").write_text("file,labels,split\n" + "\n".join(rows) + "\n")
    options = ["dataset.name=colours", f"train.output_dir={tmp_path / 'run'}", "train.max_iter=2", "train.device=cpu"]
    for split in ("train", "val", "test"):
        options += [f"dataset.files.{split}={tmp_path / 'tags.csv'}", f"dataset.split_names.{split}={split}"]
    in_process("tools/train_net.py", "--config-file", "configs/small/student.py", *options)
    return tmp_path / "run"


def test_a_run_becomes_a_model_folder(run, tmp_path, capsys):
    assert main(["export", str(run), "--out", str(tmp_path / "model")]) == 0
    assert "2 classes" in capsys.readouterr().out
    results = json.loads((run / "results.json").read_text())
    tagger = Tagger.load(tmp_path / "model")
    assert tagger.classes == ["blue", "red"]
    assert tagger.thresholds.tolist() == [results["val"]["multilabel"]["threshold"]] * 2
    assert (tagger.config.image_size, tagger.config.fast_decode) == (40, False)
    metrics = tagger.config.metrics["test"]
    assert metrics["mAP"] == results["test"]["multilabel"]["mAP"]
    assert metrics["mAP_interval"][0] <= metrics["mAP"] <= metrics["mAP_interval"][1]
    assert tagger.config.data_hash == json.loads((run / "inputs.json").read_text())["dataset.train"]
    assert main(["export", str(run), "--out", str(tmp_path / "model")]) == 2
    assert "model exists: delete it, or give another folder" in capsys.readouterr().err
