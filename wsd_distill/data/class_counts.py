"""Labels as a matrix, and classes that cannot be learned or measured with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from .datasets.arrow_records import ArrowRecords
from .types import DatasetDict

FEW_POSITIVES = 5  # a class with fewer positive images is named: its AP depends on single images
_CHUNK = 65_536  # images whose labels are in memory at once


class ClassCounts(NamedTuple):
    """Images of each class, and how many labels images have.

    Attributes:
        positives, ignored: (K,) images.
        images: number of images.
        labels: (K + 1,) images that have 0 to K labels.
    """

    positives: np.ndarray
    ignored: np.ndarray
    images: int
    labels: np.ndarray

    @property
    def negatives(self) -> np.ndarray:
        return self.images - self.positives - self.ignored

    @property
    def everywhere(self) -> np.ndarray:
        """(K,) bool: classes with positives and without a negative."""
        return (self.positives > 0) & (self.negatives == 0)


def label_matrices(records: Sequence[DatasetDict], num_classes: int, dataset_name: str) -> Iterator[np.ndarray]:
    """Yield (n, K) labels of some images after the other; see ``label_matrix``."""
    if isinstance(records, ArrowRecords):
        yield from records.label_matrices(num_classes)
    else:
        for start in range(0, len(records), _CHUNK):
            yield label_matrix(records[start : start + _CHUNK], num_classes, dataset_name)


def count_classes(records: Sequence[DatasetDict], num_classes: int, dataset_name: str) -> ClassCounts:
    """Count labels; the memory does not grow with the number of images.

    Raises:
        ValueError: as in ``label_matrix``.
    """
    positives, ignored = np.zeros(num_classes, np.int64), np.zeros(num_classes, np.int64)
    labels = np.zeros(num_classes + 1, np.int64)
    for matrix in label_matrices(records, num_classes, dataset_name):
        counts = _count_matrix(matrix)
        positives += counts.positives
        ignored += counts.ignored
        labels += counts.labels
    return ClassCounts(positives, ignored, len(records), labels)


def _count_matrix(labels: np.ndarray) -> ClassCounts:
    """Count labels (N, K)."""
    is_positive = labels == 1
    sizes = np.bincount(is_positive.sum(axis=1), minlength=labels.shape[1] + 1)
    return ClassCounts(is_positive.sum(axis=0), (labels == -1).sum(axis=0), len(labels), sizes)


def label_matrix(records: Sequence[DatasetDict], num_classes: int, dataset_name: str) -> np.ndarray:
    """Return (N, K) int8 labels: 1 = positive, 0 = negative, -1 = ignored.

    Raises:
        ValueError: an image has no ``labels``, or labels that are not class indices; names it.
    """
    if isinstance(records, ArrowRecords):
        return np.concatenate([np.zeros((0, num_classes), np.int8), *records.label_matrices(num_classes)])
    labels = np.zeros((len(records), num_classes), dtype=np.int8)
    for row, record in zip(labels, records):
        if "labels" not in record:
            raise ValueError(f"Image {record['image_id']!r} of {dataset_name!r} has no 'labels'.")
        present, ignored = record["labels"], record.get("ignore_labels", [])
        if not all(0 <= label < num_classes for label in [*present, *ignored]):
            raise ValueError(
                f"Image {record['image_id']!r} of {dataset_name!r} has labels {present + ignored}, "
                f"but there are {num_classes} classes (0 to {num_classes - 1})."
            )
        row[ignored] = -1
        row[present] = 1
    return labels


def classes_everywhere(labels: np.ndarray) -> np.ndarray:
    """Return (K,) bool: classes with positives and without a negative, in labels (N, K); their AP is always 1."""
    return _count_matrix(labels).everywhere


def describe_classes(labels: np.ndarray, class_names: Sequence[str]) -> list[str]:
    """Return a sentence per kind of class that cannot be learned or measured with labels (N, K)."""
    return describe_counts(_count_matrix(labels), class_names)


def describe_counts(counts: ClassCounts, class_names: Sequence[str]) -> list[str]:
    """Return the sentences of ``describe_classes`` from counts."""
    positives, sentences = counts.positives, []
    if len(class_names) == 1:
        return [f"there is one class only, {class_names[0]}: T-WDet cannot learn it without a background class"]
    kinds = (
        (counts.everywhere, "every image has {}: AP is 100 whatever is predicted"),
        (positives == 0, "no image has {}: AP is undefined"),
        ((positives > 0) & (positives < FEW_POSITIVES), f"fewer than {FEW_POSITIVES} images have {{}}"),
    )
    for chosen, text in kinds:
        if chosen.any():
            sentences.append(text.format(_name([class_names[k] for k in np.flatnonzero(chosen).tolist()])))
    return sentences


def _name(classes: Sequence[str]) -> str:
    rest = f" and {len(classes) - 10} more" if len(classes) > 10 else ""
    return ", ".join(classes[:10]) + rest
