"""Which test photos of a class the report of ``wsd train`` shows."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from wsd_distill.evaluation.scores import Scores
from wsd_distill.pipeline.tagger_training import Decisions
from wsd_distill.report import examples
from wsd_distill.report.examples import CHANGED, MISSED, RIGHT, WRONG, choose_rows, count_changes, list_examples

LABELS = [1, 1, 1, 1, 0, 0, 0, -1]
KEPT = [0.6, 0.9, 0.2, 0.1, 0.7, 0.8, 0.3, 0.95]  # of each photo; the threshold is 0.5
PLAIN = [0.4, 0.9, 0.6, 0.1, 0.7, 0.1, 0.6, 0.05]


def decide(*columns, threshold=0.5):
    """Decisions of a student with the given scores of each class."""
    scores = np.array(columns).T
    labels = np.repeat(np.array(LABELS)[:, None], len(columns), 1)
    names, ids = [f"class{k}" for k in range(len(columns))], [f"{i}.png" for i in range(len(LABELS))]
    thresholds = SimpleNamespace(values=np.full(len(columns), threshold))
    return Decisions(1.0, 0.0, thresholds, Scores(scores, labels, names, image_ids=ids))


@pytest.mark.parametrize("count", [1, 3])
def test_most_certain_photos_of_each_kind(count):
    expected = {RIGHT: [1, 0], MISSED: [3, 2], WRONG: [5, 4]}
    assert choose_rows(decide(KEPT), None, 0, count) == {kind: rows[:count] for kind, rows in expected.items()}


def test_changed_photos_have_known_labels_and_the_largest_change_first():
    """Photos 0 and 6 became right, 5 and 2 wrong; 7 changed too, but its label is unknown."""
    assert choose_rows(decide(KEPT), decide(PLAIN), 0, 9)[CHANGED] == [5, 2, 6, 0]
    assert count_changes(decide(KEPT), decide(PLAIN), 0) == (2, 2)
    assert count_changes(decide(KEPT), decide(PLAIN, threshold=0.65), 0) == (1, 1)  # 2 and 6 do not change


def test_a_page_has_a_bounded_number_of_photos(tmp_path, monkeypatch):
    for i in range(len(LABELS)):
        Image.new("RGB", (300, 200)).save(tmp_path / f"{i}.png")
    kept, plain = decide(*[KEPT] * 5), decide(*[PLAIN] * 5)
    for limit, classes, per_kind in ((640, 5, 3), (44, 5, 2), (12, 3, 1)):
        monkeypatch.setattr(examples, "MAX_PHOTOS", limit)
        found = list_examples(kept, plain, [4, 3, 2, 1, 0], tmp_path)
        assert [x.name for x in found] == [f"class{k}" for k in (4, 3, 2, 1, 0)][:classes]
        assert max(len(photos) for x in found for photos in x.photos.values()) == per_kind
        assert sum(len(photos) for x in found for photos in x.photos.values()) <= limit
    first = found[0].photos[CHANGED][0]
    assert (first.file, first.probability, first.tags) == ("5.png", "0.10 → 0.80, now wrong", "no tag")
    assert found[0].became == (2, 2) and list_examples(kept, None, [0], tmp_path)[0].became is None
