"""What is wrong with photos and tags, before a training: for ``wsd check``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..data.class_counts import FEW_POSITIVES, describe_classes
from ..data.datasets.faults import SHOWN, Finding
from .hashes import PhotoHashes, group_photos, hash_photos
from .photo_files import find_missing
from .split import NEAR_REMEDY, NEAR_SHARED, SPLITS, describe_pairs, find_near_shared, find_shared
from .table import TagTable


@dataclass
class TagCheck:
    """Counts and findings of photos and tags.

    Attributes:
        positive, unknown: (K,) photos of each class.
        num_labels: positive labels in all.
        findings: errors first.
        readable: (N,) bool, photos that can be read.
    """

    positive: np.ndarray
    unknown: np.ndarray
    num_labels: int
    readable: np.ndarray
    findings: list[Finding] = field(default_factory=list)

    @property
    def has_errors(self) -> bool:
        """Whether a training is not possible."""
        return any(not finding.is_warning for finding in self.findings)


def check_tags(table: TagTable, images: str | os.PathLike, row_faults: Sequence[Finding] = ()) -> TagCheck:
    """Read all photos, and look for problems in them and in their tags.

    Args:
        table: photos with tags.
        images: folder of the photos.
        row_faults: of the rows that were left out when the tags were read.
    """
    if not len(table):
        zeros = np.zeros(len(table.classes), int)
        return TagCheck(zeros, zeros, 0, np.zeros(0, bool), list(row_faults))
    missing = find_missing(table.table["file"].combine_chunks(), images)
    there = np.ones(len(table), bool)
    there[missing] = False
    rows = np.flatnonzero(there)
    files = table.files
    hashes = hash_photos([os.path.join(images, files[row]) for row in rows])
    there[rows[list(hashes.errors)]] = False
    labels = table.label_matrix()
    check = TagCheck((labels == 1).sum(axis=0), (labels == -1).sum(axis=0), int((labels == 1).sum()), there)
    found = [
        *row_faults,
        *_find_unreadable(files, missing, rows, hashes, str(images)),
        *_find_shared(table, rows, hashes),
        *_find_class_problems(table, labels),
        *_find_copies(table, labels, rows, hashes),
        *_find_untagged(table, labels),
    ]
    check.findings = sorted(found, key=lambda finding: finding.is_warning)
    return check


def _find_unreadable(
    files: list[str], missing: np.ndarray, rows: np.ndarray, hashes: PhotoHashes, images: str
) -> Iterator[Finding]:
    if len(missing):
        text = f"Photos that are not in {images}: {len(missing)} of {len(files)}"
        remedy = "Correct --images or the file names, or remove the rows"
        yield Finding(text, remedy, [files[row] for row in missing], [], False)
    if hashes.errors:
        details = [f"{files[rows[i]]} ({_describe_cause(error)})" for i, error in hashes.errors.items()]
        text = f"Photos that cannot be read: {len(details)} of {len(files)}"
        yield Finding(text, "Replace them, or remove their rows", details, [], False)


def _describe_cause(error: Exception) -> str:
    cause = error.__cause__ or error
    return f"{type(cause).__name__}: {cause}"


def _find_shared(table: TagTable, rows: np.ndarray, hashes: PhotoHashes) -> Iterator[Finding]:
    if not table.has_split:
        return
    splits, files = table.table["split"].to_numpy()[rows], table.files
    empty = [name for name in SPLITS if not (splits == name).any()]
    if empty:
        text = f"The given split has no photo for {', '.join(empty)}"
        yield Finding(text, "Add photos with that split, or give no split", [], [], False)
    readable = ~np.isin(np.arange(len(rows)), list(hashes.errors))
    pairs = find_shared(splits[readable], hashes.digest[readable])
    if len(pairs):
        pairs = rows[readable][pairs]
        names = table.table["split"].to_pylist()
        details = [f"{files[a]} ({names[a]}) is {files[b]} ({names[b]})" for a, b in pairs.tolist()]
        text = f"Photos in two splits, which make results too good: {len(pairs)}"
        yield Finding(text, "Keep each photo in one split", details, pairs.tolist(), False)
    near = find_near_shared(splits, hashes)
    if len(near):
        near = rows[near]
        yield Finding(f"{NEAR_SHARED}: {len(near)}", NEAR_REMEDY, describe_pairs(table, near), near.tolist(), True)


def check_classes(table: TagTable) -> list[str]:
    """Check that the tags can be learned; return warnings.

    Raises:
        ValueError: they cannot.
    """
    found = list(_find_class_problems(table, table.label_matrix()))
    for finding in found:
        if not finding.is_warning:
            raise ValueError(f"{finding.text}. {finding.remedy}")
    return [f"WARNING {finding}" for finding in found]


def _find_class_problems(table: TagTable, labels: np.ndarray) -> Iterator[Finding]:
    if not (labels == 1).any():
        yield Finding("No photo has a tag", "Add tags, without which nothing can be learned", [], [], False)
        return
    if len(table.classes) == 1:
        remedy = "Add a second class, for example 'other' for the photos without it"
        yield Finding(f"There is one class only, {table.classes[0]}", remedy, [], [], False)
        return
    remedy = (
        f"Add photos until each class has {FEW_POSITIVES}, better 50, and is absent from others; or remove the class"
    )
    for text in describe_classes(labels, table.classes):
        yield Finding(text[0].upper() + text[1:], remedy, [], [], True)


def _find_copies(table: TagTable, labels: np.ndarray, rows: np.ndarray, hashes: PhotoHashes) -> Iterator[Finding]:
    """Find photos that are there several times; with other tags, the one or the other is wrong."""
    groups, files = group_photos(hashes), table.files
    order = np.argsort(groups, kind="stable")
    parts = [part for part in np.split(order, np.flatnonzero(np.diff(groups[order])) + 1) if len(part) > 1]
    kinds: dict[str, list[list[int]]] = {"differ": [], "equal": [], "near": []}
    for part in parts:
        differ = _tags_differ(labels[rows[part]])
        is_equal = len(np.unique(hashes.digest[part])) == 1
        kinds["differ" if differ else "equal" if is_equal else "near"].append(rows[part].tolist())
    for kind, text, remedy in (
        ("differ", "Equal or nearly equal photos with different tags", "Correct the tags"),
        ("equal", "Equal photos", "Remove all but one of each; a split keeps them together"),
        ("near", "Nearly equal photos", "Nothing has to be done: a split keeps them together"),
    ):
        if kinds[kind]:
            details = [" = ".join(files[row] for row in group[:SHOWN]) for group in kinds[kind]]
            yield Finding(f"{text}: {len(details)} groups", remedy, details, kinds[kind], True)


def _tags_differ(labels: np.ndarray) -> bool:
    """Return whether a class is present in one of the photos (n, K) and absent in another."""
    return bool(((labels == 1).any(axis=0) & (labels == 0).any(axis=0)).any())


def _find_untagged(table: TagTable, labels: np.ndarray) -> Iterator[Finding]:
    positive, unknown = (labels == 1).any(axis=1), (labels == -1).any(axis=1)
    untagged = np.flatnonzero(~positive & ~unknown)
    if len(untagged):
        text = f"Photos without a tag, in which every class counts as absent: {len(untagged)} of {len(labels)}"
        remedy = "Tag them if that is wrong, or mark tags as unknown (?tag)"
        files = table.files
        details = [files[row] for row in untagged]
        yield Finding(text, remedy, details, [[row] for row in untagged[:12].tolist()], True)
    if unknown.any():
        text = f"Unknown tags, which count neither as present nor as absent: {int((labels == -1).sum())}"
        yield Finding(f"{text} in {int(unknown.sum())} photos", "Nothing has to be done", [], [], True)
