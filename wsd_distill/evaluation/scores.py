"""The file of an evaluation's scores and labels, from which every metric can be computed again."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

SCORES_FILE = "scores.npz"


class Scores(NamedTuple):
    """N images, K classes."""

    scores: np.ndarray  # (N, K) probabilities
    labels: np.ndarray  # (N, K): 1 has the class, 0 has not, -1 neither
    class_names: list[str]


def read_scores(path: Path, class_names: Sequence[str] | None = None) -> Scores:
    """What :class:`.MultiLabelEvaluator` wrote to ``path``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is none of these files, misses an array, holds arrays that do not fit together, scores that are
            no probabilities, other labels or none that is positive, or other classes than ``class_names`` (None: any).
    """
    arrays = _load(path)
    missing = [key for key in Scores._fields if key not in arrays]
    if missing:
        raise ValueError(f"{path} has no array {missing[0]!r}: name the {SCORES_FILE} that an evaluation wrote.")
    found = Scores(arrays["scores"], arrays["labels"], arrays["class_names"].tolist())
    _check(path, found)
    if class_names is not None and found.class_names != list(class_names):
        raise ValueError(f"{path} is of other classes: {found.class_names}, not {list(class_names)}.")
    return found


def invalid_rows(scores: np.ndarray) -> np.ndarray:
    """Indices of the images with scores that are NaN or no probabilities."""
    # A sum of WSDDN's float32 products may pass 1 by rounding; a logit passes it by far.
    return np.flatnonzero(~((scores >= -1e-3) & (scores <= 1 + 1e-3)).all(axis=1))


def _load(path: Path) -> dict[str, np.ndarray]:
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} is no file: name the {SCORES_FILE} that an evaluation with output_dir wrote.")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is no .npz file: name the {SCORES_FILE} that an evaluation with output_dir wrote.")
    try:
        with np.load(path) as file:
            return {key: file[key] for key in file.files if key in Scores._fields}
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, OSError) as error:
        raise ValueError(f"{path} cannot be read ({error}): evaluate again to write it.") from error


def _check(path: Path, found: Scores) -> None:
    shape = found.scores.shape
    if len(shape) != 2 or found.labels.shape != shape or len(found.class_names) != shape[1]:
        raise ValueError(
            f"{path} has 'scores' {shape}, 'labels' {found.labels.shape} and {len(found.class_names)} 'class_names': "
            "they have to be (N, K), (N, K) and K."
        )
    if not np.isin(found.labels, (-1, 0, 1)).all():
        raise ValueError(f"{path} has 'labels' other than 1, 0 and -1 (neither): {np.unique(found.labels)[:8]}.")
    if not (found.labels == 1).any():
        raise ValueError(f"{path} has 'labels' without a positive: there is nothing to evaluate.")
    bad = invalid_rows(found.scores)
    if len(bad):
        raise ValueError(f"{path} has 'scores' that are no probabilities: row {bad[0]} is {found.scores[bad[0]]}.")
