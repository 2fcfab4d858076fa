"""The file of scores and labels that an evaluation writes; all metrics can be recomputed from it."""

from __future__ import annotations

import itertools
import math
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from wsd_distill.io import check_file, read_limit

SCORES_FILE = "scores.npz"
MIN_SCORE_STD = 1e-3
_REQUIRED = ("scores", "labels", "class_names")
_HEADER_READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


class Scores(NamedTuple):
    """Scores and labels of N images and K classes."""

    scores: np.ndarray  # (N, K) probabilities
    labels: np.ndarray  # (N, K): 1 = positive, 0 = negative, -1 = ignored
    class_names: list[str]
    weights_digest: str = ""  # of the weights that the scores are of; "": unknown
    image_ids: list | None = None  # N; None: unknown


def read_scores(path: Path, class_names: Sequence[str] | None = None) -> Scores:
    """Read a file that :class:`.MultiLabelEvaluator` wrote.

    Args:
        path: the file.
        class_names: expected classes; None for any.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is invalid: arrays are missing or of wrong shapes, scores are not probabilities, labels are
            not in {-1, 0, 1} or without positives, the number of image ids is not N, or the classes are not
            ``class_names``. Its arrays have more than ``$WSD_MAX_SCORES_GB`` (2) gigabytes.
    """
    arrays = _load(Path(path))
    missing = [key for key in _REQUIRED if key not in arrays]
    if missing:
        raise ValueError(f"{path} has no array {missing[0]!r}: give the {SCORES_FILE} of an evaluation.")
    digest = str(arrays.get("weights_digest", ""))
    ids = np.atleast_1d(arrays["image_ids"]).tolist() if "image_ids" in arrays else None
    found = Scores(arrays["scores"], arrays["labels"], np.atleast_1d(arrays["class_names"]).tolist(), digest, ids)
    _check(path, found)
    if class_names is not None and found.class_names != list(class_names):
        raise ValueError(f"{path} has other classes: {found.class_names}, expected {list(class_names)}.")
    return found


def check_same_images(first: Path, first_scores: Scores, other: Path, other_scores: Scores) -> None:
    """Check that two files of scores have the same classes, images and labels, in the same order.

    Raises:
        ValueError: They differ, or a file has no image ids; the message names both files and the first difference.
    """
    hint = "evaluate both on the same dataset"
    for path, found in ((first, first_scores), (other, other_scores)):
        if found.image_ids is None:
            raise ValueError(f"{path} has no array 'image_ids', so that {first} and {other} cannot be compared: {hint}")
    names, ids = first_scores.class_names, first_scores.image_ids or []
    for what, values, expected in (
        ("classes", other_scores.class_names, names),
        ("image ids", other_scores.image_ids or [], ids),
    ):
        if values != expected:
            pairs = enumerate(itertools.zip_longest(values, expected))
            i, (value, reference) = next((i, pair) for i, pair in pairs if pair[0] != pair[1])
            where = f"number {i}: {value!r}, not {reference!r}"
            raise ValueError(f"{other} has other {what} than {first} ({where}): {hint}")
    rows, columns = np.nonzero(first_scores.labels != other_scores.labels)
    if len(rows):
        where = f"image {ids[rows[0]]!r}, {names[columns[0]]}"
        raise ValueError(f"{other} has other labels than {first} ({where}): {hint}")


def score_std(scores: np.ndarray) -> float:
    """Return the largest standard deviation over images of the scores (N, K) of a class."""
    return float(scores.std(axis=0, dtype=np.float64).max())


def constant_scores(scores: np.ndarray) -> list[str]:
    """Return a sentence if the scores (N, K) hardly depend on the image, with two or more images; otherwise none."""
    std = score_std(scores)
    if len(scores) < 2 or std >= MIN_SCORE_STD:
        return []
    text = f"their standard deviation is at most {std:.1e} in each class, below {MIN_SCORE_STD:g}"
    return [
        f"THE SCORES HARDLY DEPEND ON THE IMAGE ({text}): the model has learned nothing, or the wrong weights are read"
    ]


def invalid_rows(scores: np.ndarray) -> np.ndarray:
    """Return the indices of images with scores that are NaN or outside [0, 1]."""
    # A sum of float32 products may exceed 1 by rounding; logits exceed it by far.
    return np.flatnonzero(~((scores >= -1e-3) & (scores <= 1 + 1e-3)).all(axis=1))


def _load(path: Path) -> dict[str, np.ndarray]:
    try:
        check_file(path)
    except FileNotFoundError:
        text = f"{path} does not exist: give the {SCORES_FILE} of an evaluation, or a split that was evaluated"
        raise FileNotFoundError(text) from None
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is not an .npz file: give the {SCORES_FILE} of an evaluation")
    try:
        with zipfile.ZipFile(path) as file:
            keys = [key for key in Scores._fields if f"{key}.npy" in file.namelist()]
            _check_sizes(file, keys)
        with np.load(path) as arrays:
            return {key: arrays[key] for key in keys}
    except Exception as error:  # a damaged file can raise anything
        raise ValueError(f"{path} is truncated or not a valid .npz file ({error}): evaluate again.") from error


def _check_sizes(file: zipfile.ZipFile, keys: Sequence[str]) -> None:
    """Compare the declared sizes of arrays with those of the members, before memory is allocated for them."""
    limit = read_limit("WSD_MAX_SCORES_GB", 2)
    total = sum(file.getinfo(f"{key}.npy").file_size for key in keys)
    if total > limit * 1e9:
        text = f"its arrays have {total / 1e9:.1f} GB, more than the limit of {limit:g}"
        raise ValueError(f"{text}: set the environment variable WSD_MAX_SCORES_GB if it is right")
    for key in keys:
        with file.open(f"{key}.npy") as member:
            version = np.lib.format.read_magic(member)
            if version not in _HEADER_READERS:
                raise ValueError(f"'{key}' has version {version} of the .npy format")
            shape, _, dtype = _HEADER_READERS[version](member)
            declared = math.prod(shape) * dtype.itemsize
            if dtype.hasobject or min(shape, default=0) < 0 or declared > file.getinfo(f"{key}.npy").file_size:
                raise ValueError(f"'{key}' is declared with shape {shape} and dtype {dtype}, and has another size")


def _check(path: Path, found: Scores) -> None:
    shape = found.scores.shape
    if len(shape) != 2 or found.labels.shape != shape or len(found.class_names) != shape[1]:
        raise ValueError(
            f"{path} has 'scores' {shape}, 'labels' {found.labels.shape} and {len(found.class_names)} 'class_names': "
            "they must be (N, K), (N, K) and K."
        )
    if found.image_ids is not None and len(found.image_ids) != shape[0]:
        raise ValueError(f"{path} has {len(found.image_ids)} 'image_ids' for {shape[0]} images: evaluate again.")
    if not np.issubdtype(found.scores.dtype, np.floating):
        raise ValueError(f"{path} has 'scores' of dtype {found.scores.dtype}: they must be floating-point numbers.")
    if not np.isin(found.labels, (-1, 0, 1)).all():
        raise ValueError(f"{path} has 'labels' other than 1, 0 and -1 (ignored): {np.unique(found.labels)[:8]}.")
    if not (found.labels == 1).any():
        raise ValueError(f"{path} has 'labels' without positives: no metric is defined.")
    bad = invalid_rows(found.scores)
    if len(bad):
        raise ValueError(f"{path} has 'scores' that are not probabilities: row {bad[0]} is {found.scores[bad[0]]}.")
