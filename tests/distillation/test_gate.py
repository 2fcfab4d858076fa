import logging

import pytest
import torch
from builders import K

from wsd_distill.distillation import PoorTeacherError, TeacherGate


class Answers:
    """A teacher that knows its answers by heart: the scores lie in the input."""

    def extract(self, batch):
        return type("Output", (), {"image_scores": torch.stack([x["scores"] for x in batch])})


def loader(scores, labels):
    return [[{"scores": s, "labels": y} for s, y in zip(scores, labels)]]


def test_a_good_teacher_passes_and_its_map_is_printed(caplog):
    labels = torch.eye(K).repeat(20, 1)
    scores = labels * 0.5
    scores[0] = 0.0  # class 0: 19 positives first, the last one tied with 40 negatives: 19/20 + 1/20 * 20/60
    with caplog.at_level(logging.INFO):
        found = TeacherGate(loader(scores, labels))(Answers())
    assert found == pytest.approx(100 * (19 / 20 + 1 / 60 + 2) / 3)
    assert "the teacher's mAP on 60 images is 98.9" in caplog.text


def test_a_teacher_no_better_than_chance_stops_the_run_unless_allowed(caplog):
    labels = (torch.rand(100, K) < 0.3).float()
    scores = torch.rand(100, K)
    with pytest.raises(PoorTeacherError, match="trainer.gate.allow_poor=True"):
        TeacherGate(loader(scores, labels))(Answers())
    with caplog.at_level(logging.WARNING):
        TeacherGate(loader(scores, labels), allow_poor=True)(Answers())
    assert "has to be above" in caplog.text


def test_constant_scores_are_chance():
    labels = (torch.rand(50, K) < 0.3).float()
    with pytest.raises(PoorTeacherError):
        TeacherGate(loader(torch.full((50, K), 0.5), labels))(Answers())


def test_images_without_labels_tell_nothing():
    with pytest.raises(ValueError, match="have no label"):
        TeacherGate(loader(torch.rand(5, K), torch.zeros(5, K)))(Answers())
