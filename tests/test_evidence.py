"""Evidence: the boxes of T-WDet in a photo, from the folder of a run."""

import wsd_distill  # noqa: F401  (first: it patches Detectron2 0.6 for a current PyTorch)

# isort: split
import io
import json

import numpy as np
import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from helpers.running import in_process
from PIL import Image

from wsd_distill.data.image import read_rgb
from wsd_distill.evidence import Evidence

CLASSES = ["ball", "box", "wedge"]


@pytest.fixture
def run(load_config, restore_catalogs, tmp_path):
    """Folder of a run of T-WDet without its dataset, with random weights."""
    for split in ("train", "val", "test"):
        (tmp_path / f"{split}.csv").write_text("file,labels\na.png,ball;box\nb.png,wedge\n")
    files = [f"dataset.files.{split}={tmp_path}/{split}.csv" for split in ("train", "val", "test")]
    cfg = load_config("small/teacher.py", "dataset.name=shapes", "train.device=cpu", *files)
    return write_run(cfg, tmp_path / "run")


def write_run(cfg, folder):
    folder.mkdir()
    LazyConfig.save(cfg, str(folder / "config.yaml"))
    torch.save({"model": instantiate(cfg.model).state_dict()}, folder / "model_final.pth")
    return folder


@pytest.fixture
def photo(tmp_path):
    """A JPEG whose Exif data turns it to 90 x 60 pixels."""
    pixels = np.full((90, 60, 3), 40, np.uint8)
    pixels[20:60, 10:35] = (220, 80, 60)
    pixels[50:80, 30:55] = (30, 90, 220)
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(pixels).save(tmp_path / "photo.jpg", exif=exif)
    return tmp_path / "photo.jpg"


def test_boxes_are_those_of_the_tool(run, photo, capsys):
    model = ["--config-file", run / "config.yaml", "--weights", run / "model_final.pth"]
    in_process("tools/predict.py", *model, "--input", photo, "--threshold", "0", "--boxes-per-label", "2")
    (line,) = map(json.loads, capsys.readouterr().out.splitlines())
    found = Evidence.load(run, device="cpu", score_threshold=0, boxes_per_class=2)(photo)
    assert list(found) == CLASSES
    for name in CLASSES:
        expected = [box for box in line["boxes"] if box["label"] == name]
        assert len(found[name]) == len(expected) == 2
        for ours, theirs in zip(found[name], expected):
            assert ours["box"] == pytest.approx(theirs["box"], abs=1e-3)
            assert ours["score"] == pytest.approx(theirs["score"], rel=1e-4)
            x0, y0, x1, y1 = ours["box"]
            assert 0 <= x0 < x1 <= 90 and 0 <= y0 < y1 <= 60  # upright
        assert found[name][0]["score"] >= found[name][1]["score"] > 0


def test_the_same_photo_in_every_form_has_the_same_boxes(run, photo):
    evidence = Evidence.load(run, device="cpu", score_threshold=0)
    expected = evidence(photo)
    with Image.open(io.BytesIO(photo.read_bytes())) as opened:
        forms = [str(photo), photo.read_bytes(), read_rgb(str(photo)), opened.copy()]
    forms[-1].info["exif"] = Image.open(photo).info["exif"]
    for form in forms:
        found = evidence(form)
        for name in CLASSES:
            assert [box["box"] for box in found[name]] == [pytest.approx(box["box"]) for box in expected[name]]


def test_the_threshold_and_the_number_of_boxes_limit_them(run, photo):
    evidence = Evidence.load(run, device="cpu", score_threshold=0, boxes_per_class=100)
    everything = evidence.detect(photo)
    assert everything.scores.tolist() == sorted(everything.scores.tolist(), reverse=True)
    middle = everything.scores.median().item()
    evidence.score_threshold = middle
    kept = {name: [box["score"] for box in boxes] for name, boxes in evidence(photo).items()}
    for k, name in enumerate(CLASSES):
        scores = everything.scores[everything.pred_classes == k]
        assert kept.get(name, []) == scores[scores >= middle].tolist()
    evidence.score_threshold = 1.0
    assert evidence(photo) == {}


def test_wrong_folders_are_errors_that_name_them(run, load_config, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere has no config.yaml: give the folder of a complete run"):
        Evidence.load(tmp_path / "nowhere")
    student = write_run(load_config("small/student.py"), tmp_path / "student")
    with pytest.raises(ValueError, match="student trained MultiLabelClassifier, and only T-WDet gives boxes"):
        Evidence.load(student)
    (run / "model_final.pth").unlink()
    with pytest.raises(FileNotFoundError, match="run has no model_final.pth"):
        Evidence.load(run)


def test_a_photo_that_cannot_be_read_is_an_error_that_names_it(run, tmp_path):
    evidence = Evidence.load(run, device="cpu")
    (tmp_path / "text.jpg").write_text("text")
    with pytest.raises(ValueError, match="text.jpg cannot be read as an image"):
        evidence(tmp_path / "text.jpg")
    with pytest.raises(ValueError, match=r"an image is float64 \(4, 4, 3\): give a path"):
        evidence(np.zeros((4, 4, 3)))
