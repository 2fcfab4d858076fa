"""The teacher whose boxes wsd predict and wsd serve add."""

import pytest
from helpers.fake_tagger import FakeEvidence

import wsd_distill.evidence
from wsd_distill.cli.teacher import find_teacher, load_evidence


def test_the_teacher_of_wsd_train_is_found_once_it_is_complete(tmp_path):
    run = tmp_path / "pets" / "runs" / "seed0" / "teacher"
    run.mkdir(parents=True)
    (tmp_path / "pets" / "model").mkdir()
    (run / "config.yaml").write_text("")
    assert find_teacher(tmp_path / "pets" / "model") is None
    (run / "results.json").write_text("{}")
    assert find_teacher(tmp_path / "pets" / "model") == run
    assert find_teacher(tmp_path / "pets") is None


def test_a_teacher_of_other_classes_is_an_error_with_both_lists(monkeypatch):
    monkeypatch.setattr(wsd_distill.evidence.Evidence, "load", lambda run: FakeEvidence())
    assert load_evidence("run", ["red", "green", "blue"]).class_names == ["red", "green", "blue"]
    message = r"--teacher run: other classes: it has 3 classes \(red, green, blue\), the model has 2 \(red, pink\)"
    with pytest.raises(ValueError, match=message):
        load_evidence("run", ["red", "pink"], "--teacher")
