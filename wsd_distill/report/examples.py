"""Examples in the report of ``wsd train``: test photos of each class, and what distillation changed in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from wsd_distill.evaluation.scores import Scores

from .thumbnails import make_thumbnail

if TYPE_CHECKING:
    from wsd_distill.pipeline.tagger_training import Decisions

RIGHT, MISSED, WRONG, CHANGED = "Right", "Missed", "Wrong, or a missing tag", "Changed by distillation"
MAX_PHOTOS, PER_KIND, SIDE = 640, 3, 96  # of a page, and of a kind in a class; pixels


class Example(NamedTuple):
    """A photo with what the tagger says, and what its tags say."""

    data: str  # JPEG in base64
    file: str
    label: str
    probability: str
    tags: str


class ClassExamples(NamedTuple):
    """Photos of a class by kind, and how many decisions became right or wrong by distillation, if it is kept."""

    name: str
    photos: dict[str, list[Example]]
    became: tuple[int, int] | None


def list_examples(
    kept: Decisions, plain: Decisions | None, classes: Sequence[int], images: Path
) -> list[ClassExamples]:
    """Choose test photos of the ``classes`` in their order, until the page has ``MAX_PHOTOS``.

    Args:
        kept, plain: of the tagger, and of plain fine-tuning if the tagger is another student.
        classes: indices.
        images: folder of the photos.
    """
    found: list[ClassExamples] = []
    count = max(1, min(PER_KIND, MAX_PHOTOS // (4 * len(classes))))
    for k in classes[: MAX_PHOTOS // (4 * count)]:
        rows = choose_rows(kept, plain, k, count)
        photos = {kind: [_describe(kept, plain, i, k, kind, images) for i in rows[kind]] for kind in rows}
        became = None if plain is None else count_changes(kept, plain, k)
        found.append(ClassExamples(kept.test.class_names[k], photos, became))
    return found


def choose_rows(kept: Decisions, plain: Decisions | None, k: int, count: int) -> dict[str, list[int]]:
    """Return kind -> at most ``count`` rows of test photos for class k.

    Right and wrong ones have the highest probabilities, missed ones the lowest. Changed are those that plain
    fine-tuning decides otherwise, the largest change of the probability first. Unknown labels are left out.
    """
    scores, labels, predicted = kept.test.scores[:, k], kept.test.labels[:, k], kept.predicted[:, k]
    chosen = {
        RIGHT: _first(predicted & (labels == 1), scores, count),
        MISSED: _first(~predicted & (labels == 1), -scores, count),
        WRONG: _first(predicted & (labels == 0), scores, count),
    }
    if plain is not None:
        is_changed = (predicted != plain.predicted[:, k]) & (labels >= 0)
        chosen[CHANGED] = _first(is_changed, np.abs(scores - plain.test.scores[:, k]), count)
    return chosen


def count_changes(kept: Decisions, plain: Decisions, k: int) -> tuple[int, int]:
    """Return how many decisions about class k are right but were wrong by plain fine-tuning, and the contrary."""
    labels = kept.test.labels[:, k]
    changed = (kept.predicted != plain.predicted)[:, k] & (labels >= 0)
    is_right = kept.predicted[:, k] == (labels == 1)
    return int((changed & is_right).sum()), int((changed & ~is_right).sum())


def make_example(found: Scores, i: int, k: int, text: str, images: Path, side: int = SIDE) -> Example:
    """Return photo i with its thumbnail and tags; ``text`` is the probability of class k."""
    tags = ", ".join(found.class_names[j] for j in np.flatnonzero(found.labels[i] == 1)) or "no tag"
    file = "" if found.image_ids is None else str(found.image_ids[i])
    return Example(make_thumbnail(str(images / file), side) or "", file, found.class_names[k], text, tags)


def _describe(kept: Decisions, plain: Decisions | None, i: int, k: int, kind: str, images: Path) -> Example:
    text = f"{kept.test.scores[i, k]:.2f}"
    if kind == CHANGED and plain is not None:
        is_right = kept.predicted[i, k] == (kept.test.labels[i, k] == 1)
        text = f"{plain.test.scores[i, k]:.2f} → {text}, now {'right' if is_right else 'wrong'}"
    return make_example(kept.test, i, k, text, images)


def _first(chosen: np.ndarray, rank: np.ndarray, count: int) -> list[int]:
    """Return the ``chosen`` (N,) rows with the highest ``rank``."""
    rows = np.flatnonzero(chosen)
    return rows[np.argsort(-rank[rows], kind="stable")][:count].tolist()
