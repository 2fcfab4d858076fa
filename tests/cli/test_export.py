"""Labelled photos of ``wsd export --calibration``."""

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.model_folder import write_model_folder

import wsd_distill.tagging.quantize
from wsd_distill.cli import main
from wsd_distill.report.graphs import BEGIN, END, find_report

SEPARATED = "file,labels\na.png,dog|cat\nb.png,?bird\n"
ONE_HOT = "file,cat,dog,bird\na.png,1,1,0\nb.png,0,0,-1\n"


@pytest.fixture
def export(tmp_path, monkeypatch):
    """A function: options after --calibration -> photos and labels that are given to ``quantize``."""
    write_model_folder(tmp_path / "model")
    (tmp_path / "photos").mkdir()
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / "photos" / name), np.zeros((4, 4, 3), np.uint8))
    given = []
    monkeypatch.setattr(wsd_distill.tagging.quantize, "quantize", lambda *found, **_: given.append(found) or {})

    def run(source=None, *options):
        given_photos = [] if source is None else ["--calibration", str(source)]
        assert main(["export", str(tmp_path / "model"), "--int8", *given_photos, *options]) == 0
        _, photos, labels = given.pop()
        return photos, labels.tolist()

    return run


@pytest.mark.parametrize("form", ["separated", "one-hot", "parquet"])
def test_labelled_photos_in_formats_of_tags(form, export, tmp_path):
    photos = tmp_path / "photos"
    if form == "parquet":
        source = photos / "metadata.parquet"
        pq.write_table(pa.table({"file_name": ["a.png", "b.png"], "labels": [["dog", "cat"], ["?bird"]]}), source)
        found = export(photos)  # a folder has its photos in it
    else:
        (tmp_path / "tags.csv").write_text(SEPARATED if form == "separated" else ONE_HOT)
        found = export(tmp_path / "tags.csv", "--images", str(photos))
    assert found == ([str(photos / "a.png"), str(photos / "b.png")], [[1, 1, 0], [0, 0, -1]])


def test_the_report_beside_the_model_gets_the_measurements(export, tmp_path):
    (tmp_path / "tags.csv").write_text(SEPARATED)
    (tmp_path / "report.html").write_text(BEGIN + END)
    for is_training in (False, True):
        if is_training:
            (tmp_path / "plan.json").touch()
        export(tmp_path / "tags.csv", "--images", str(tmp_path / "photos"))
        assert ("int8" in (tmp_path / "report.html").read_text()) == is_training
    assert find_report(tmp_path / "model") and find_report(tmp_path / "other") is None


def test_a_report_without_a_place_is_an_error_before_anything_is_written(tmp_path, capsys):
    write_model_folder(tmp_path / "model")
    (tmp_path / "plan.json").touch()
    (tmp_path / "report.html").write_text("of an earlier version")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    (tmp_path / "run").mkdir()
    for command in ([str(tmp_path / "model")], [str(tmp_path / "run"), "--out", str(tmp_path / "model")]):
        assert main(["export", *command, "--int8", "--calibration", "tags.csv"]) == 2
        assert "report.html is not a report of this version" in capsys.readouterr().err
    (tmp_path / "run").rmdir()
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}


def test_a_given_separator_and_another_class(export, tmp_path, capsys):
    source = tmp_path / "photos" / "tags.csv"
    source.write_text("file,labels\na.png,dog cat\nb.png,bird\n")
    assert export(source, "--separator", "space")[1] == [[1, 1, 0], [0, 0, 1]]
    source.write_text("file,labels\na.png,dog\nb.png,fox\n")
    assert main(["export", str(tmp_path / "model"), "--int8", "--calibration", str(source)]) == 2
    assert "tags.csv, line 3: label 'fox'" in capsys.readouterr().err


def test_the_validation_photos_of_wsd_train_are_the_default(export, tmp_path, capsys):
    command = ["export", str(tmp_path / "model"), "--int8"]
    assert main(command) == 2
    assert "model has no validation photos of wsd train beside it: give labelled" in capsys.readouterr().err
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "images.txt").write_text(f"{tmp_path / 'photos'}\n")
    table = pa.table({"file": ["a.png", "b.png"], "labels": [["cat"], []], "unknown": [[], ["bird"]]})
    pq.write_table(
        table.cast(pa.schema({"file": pa.string(), **dict.fromkeys(("labels", "unknown"), pa.list_(pa.string()))})),
        tmp_path / "lists" / "val.parquet",
    )
    assert export() == ([str(tmp_path / "photos" / name) for name in ("a.png", "b.png")], [[1, 0, 0], [0, 0, -1]])
