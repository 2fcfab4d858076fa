"""The file of scores and labels that an evaluation writes; all metrics can be recomputed from it."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

SCORES_FILE = "scores.npz"


class Scores(NamedTuple):
    """Scores and labels of N images and K classes."""

    scores: np.ndarray  # (N, K) probabilities
    labels: np.ndarray  # (N, K): 1 = positive, 0 = negative, -1 = ignored
    class_names: list[str]


def read_scores(path: Path, class_names: Sequence[str] | None = None) -> Scores:
    """Read a file that :class:`.MultiLabelEvaluator` wrote.

    Args:
        path: the file.
        class_names: expected classes; None for any.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is invalid: arrays are missing or of wrong shapes, scores are not probabilities, labels are
            not in {-1, 0, 1} or without positives, or the classes are not ``class_names``.
    """
    arrays = _load(path)
    missing = [key for key in Scores._fields if key not in arrays]
    if missing:
        raise ValueError(f"{path} has no array {missing[0]!r}: give the {SCORES_FILE} of an evaluation.")
    found = Scores(arrays["scores"], arrays["labels"], arrays["class_names"].tolist())
    _check(path, found)
    if class_names is not None and found.class_names != list(class_names):
        raise ValueError(f"{path} has other classes: {found.class_names}, expected {list(class_names)}.")
    return found


def invalid_rows(scores: np.ndarray) -> np.ndarray:
    """Return the indices of images with scores that are NaN or outside [0, 1]."""
    # A sum of float32 products may exceed 1 by rounding; logits exceed it by far.
    return np.flatnonzero(~((scores >= -1e-3) & (scores <= 1 + 1e-3)).all(axis=1))


def _load(path: Path) -> dict[str, np.ndarray]:
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} does not exist: give the {SCORES_FILE} of an evaluation with output_dir.")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is not an .npz file: give the {SCORES_FILE} of an evaluation with output_dir.")
    try:
        with np.load(path) as file:
            return {key: file[key] for key in file.files if key in Scores._fields}
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, OSError) as error:
        raise ValueError(f"{path} is truncated or not a valid .npz file ({error}): evaluate again.") from error


def _check(path: Path, found: Scores) -> None:
    shape = found.scores.shape
    if len(shape) != 2 or found.labels.shape != shape or len(found.class_names) != shape[1]:
        raise ValueError(
            f"{path} has 'scores' {shape}, 'labels' {found.labels.shape} and {len(found.class_names)} 'class_names': "
            "they must be (N, K), (N, K) and K."
        )
    if not np.isin(found.labels, (-1, 0, 1)).all():
        raise ValueError(f"{path} has 'labels' other than 1, 0 and -1 (ignored): {np.unique(found.labels)[:8]}.")
    if not (found.labels == 1).any():
        raise ValueError(f"{path} has 'labels' without positives: no metric is defined.")
    bad = invalid_rows(found.scores)
    if len(bad):
        raise ValueError(f"{path} has 'scores' that are not probabilities: row {bad[0]} is {found.scores[bad[0]]}.")
