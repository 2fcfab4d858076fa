"""wsd predict with a tagger without a network."""

import argparse
import json

import pyarrow.parquet as pq
import pytest
from helpers.fake_tagger import FakeEvidence, FakeTagger, png

from wsd_distill.cli import predict


@pytest.fixture
def command(tmp_path, monkeypatch):
    """A function: arguments after the model -> exit code, in a folder with a model and three photos."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    for name in ("model.onnx", "model_int8.onnx"):
        (tmp_path / "model" / name).write_bytes(name.encode())
    (tmp_path / "photos").mkdir()
    for i, color in enumerate([(255, 0, 0), (0, 51, 255), (0, 0, 0)]):
        (tmp_path / "photos" / f"{i}.png").write_bytes(png(*color))
    monkeypatch.setattr(predict, "load_tagger", lambda model, backend: FakeTagger())

    def run(*arguments):
        parser = argparse.ArgumentParser()
        predict.add_arguments(parser)
        return predict.run(parser.parse_args(["model", *arguments]))

    return run


def test_json_lines_are_printed(command, capsys):
    assert command("photos/0.png", "photos/1.png") == 0
    printed = capsys.readouterr()
    assert printed.err == "" and [json.loads(line) for line in printed.out.splitlines()] == [
        {"file": "photos/0.png", "labels": ["red"], "probabilities": [1.0], "error": None},
        {"file": "photos/1.png", "labels": ["blue", "green"], "probabilities": [1.0, 0.2], "error": None},
    ]
    assert command("photos/1.png", "--format", "csv", "--threshold", "0.5") == 0
    assert capsys.readouterr().out.splitlines()[1] == "photos/1.png,blue,1.0,"


def test_a_file_of_the_suffix_is_written(command, capsys):
    assert command("photos", "--out", "new/tags.parquet", "--all") == 0
    table = pq.read_table("new/tags.parquet")
    assert table["file"].to_pylist() == ["photos/0.png", "photos/1.png", "photos/2.png"]
    assert table["all"].to_pylist()[0] == [1.0, 0.0, 0.0]
    assert capsys.readouterr().err == "3 photos, 0 could not be read\n"
    with pytest.raises(FileExistsError, match=r"new/tags.parquet exists: use --overwrite"):
        command("photos", "--out", "new/tags.parquet")
    assert command("photos/0.png", "--out", "new/tags.parquet", "--overwrite") == 0
    assert pq.read_table("new/tags.parquet").num_rows == 1


def test_broken_photos_are_skipped_on_request_with_exit_code_1(command, tmp_path, capsys):
    (tmp_path / "photos" / "1.png").write_bytes(b"text")
    with pytest.raises(ValueError, match=r"^photos/1.png: not an image\. --on-error skip goes on without it$"):
        command("photos", "--out", "tags.csv")
    assert command("photos", "--out", "tags.csv", "--on-error", "skip") == 1
    assert capsys.readouterr().err == "3 photos, 1 could not be read\n  photos/1.png: not an image\n"
    assert (tmp_path / "tags.csv").read_text().splitlines()[2] == "photos/1.png,,,photos/1.png: not an image"
    assert command("photos", "--on-error", "skip") == 1


def test_a_run_that_goes_on_needs_the_same_model_and_options(command, tmp_path):
    (tmp_path / "photos" / "1.png").write_bytes(b"text")
    with pytest.raises(ValueError, match="not an image"):
        command("photos", "--out", "tags.csv")
    with pytest.raises(ValueError, match=r"tags.csv.parts has results of a run with another --threshold, sources: "):
        command("photos", "photos", "--out", "tags.csv", "--threshold", "0.1")
    for options in (["--backend", "int8"], ["--backend", "onnx"]):
        if "onnx" in options:
            (tmp_path / "model" / "model.onnx").write_bytes(b"trained again")
        with pytest.raises(ValueError, match=r"tags.csv.parts has results of a run with another model: "):
            command("photos", "--out", "tags.csv", "--on-error", "skip", *options)
    (tmp_path / "model" / "model.onnx").write_bytes(b"model.onnx")
    assert command("photos", "--out", "tags.csv", "--on-error", "skip", "--backend", "onnx") == 1


def test_ray_writes_a_folder(command):
    for out in ([], ["--out", "a.csv"], ["--out", "a", "--format", "jsonl"]):
        with pytest.raises(
            ValueError, match="--ray writes a folder of Parquet files: give --out a path without a suffix"
        ):
            command("photos", *out, "--ray")


def test_boxes_of_the_teacher_beside_the_model(command, tmp_path, monkeypatch):
    loaded = []
    monkeypatch.setattr(predict, "load_evidence", lambda run, classes: loaded.append(str(run)) or FakeEvidence())
    with pytest.raises(FileNotFoundError, match=r"--boxes: model has no teacher beside it .* give the run of T-WDet"):
        command("photos", "--out", "a.parquet", "--boxes")
    for folder in (tmp_path / "runs" / "seed0" / "teacher", tmp_path / "other"):
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text("")
        (folder / "model_final.pth").write_text("")
        (folder / "results.json").write_text("{}")
    assert command("photos/0.png", "--out", "a.parquet", "--boxes") == 0
    (row,) = pq.read_table("a.parquet").to_pylist()
    assert (row["boxes"][0]["label"], row["boxes"][0]["y1"], row["boxes"][0]["score"]) == ("red", 4, 0.25)
    (tmp_path / "photos" / "1.png").write_bytes(b"text")
    with pytest.raises(ValueError, match="not an image"):
        command("photos", "--out", "b.jsonl", "--boxes", "other")
    assert loaded == [str(tmp_path / "runs" / "seed0" / "teacher"), "other"]
    (tmp_path / "other" / "model_final.pth").write_text("trained longer")
    with pytest.raises(ValueError, match=r"b.jsonl.parts has results of a run with another --boxes: "):
        command("photos", "--out", "b.jsonl", "--boxes", "other")
    with pytest.raises(ValueError, match=r"b.jsonl.parts has results of a run with another --boxes: "):
        command("photos", "--out", "b.jsonl")
