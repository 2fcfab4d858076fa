"""The sitting of docs/own_photos.md: its commands run, one after the other, at reduced size."""

import json
import re
from http.server import ThreadingHTTPServer

import pyarrow.parquet
import pytest
from helpers.documents import read_blocks, read_commands
from helpers.tagged_photos import SMALL, write_photos
from helpers.web_runtime import unpack_runtime

from wsd_distill.cli import main
from wsd_distill.pipeline import tagger_training

SITTING = next(text for language, text in read_blocks("docs/own_photos.md") if text.startswith("wsd check"))
REDUCED = {"train": ["--set", *SMALL], "serve": ["--port", "0"]}  # what the test adds to a command


@pytest.fixture
def sitting(tmp_path, tmp_path_factory, monkeypatch, restore_catalogs):
    """Run in a folder with photos and tags.csv; a server ends at once; two candidates, one with the teacher."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tagger_training, "CANDIDATES", tagger_training.CANDIDATES[:3:2])
    monkeypatch.setattr(ThreadingHTTPServer, "serve_forever", interrupt)
    write_photos(tmp_path)
    runtime = unpack_runtime(tmp_path_factory.mktemp("onnxruntime-web"))
    return {**REDUCED, "export": ["--runtime", str(runtime)], "serve": [*REDUCED["serve"], "--runtime", str(runtime)]}


def interrupt(server):
    raise KeyboardInterrupt


@pytest.mark.slow
def test_from_tags_to_a_web_page(sitting, tmp_path, capsys):
    printed = {}
    for _, name, *arguments in read_commands(SITTING):
        assert main([name, *arguments, *sitting.get(name, [])]) == 0, capsys.readouterr().err
        printed[name] = capsys.readouterr().out
    assert list(printed) == ["check", "train", "predict", "export", "serve"]
    assert printed["check"].splitlines()[-1] == "0 errors, 1 warning"
    assert "tagger: " in printed["train"] and "plain fine-tuning: mAP" in printed["train"]
    table = pyarrow.parquet.read_table("labels.parquet").to_pydict()
    assert len(table["file"]) == 24 and table["error"] == [None] * 24
    assert json.loads((tmp_path / "site/config.json").read_text())["classes"] == ["cat", "dog"]
    assert "data:image/jpeg;base64," in (tmp_path / "pets/report.html").read_text()
    assert re.fullmatch(r"boxes: .*/teacher\nhttp://127.0.0.1:\d+/ \(Ctrl\+C ends it\)\n\n", printed["serve"])
