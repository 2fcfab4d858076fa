"""Splits of photos into train, val and test."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from .hashes import PhotoHashes, group_photos, hash_photos
from .stratify import stratify
from .table import SPLITS, TagTable

SHOWN = 5  # pairs that a warning names
NEAR_SHARED = "Nearly equal photos in two splits, which may make results too good"
NEAR_REMEDY = "Move them to one split if they show the same scene, or give no split"


def split_tags(
    table: TagTable,
    images: str | os.PathLike,
    fractions: Sequence[float] = (0.7, 0.1, 0.2),
    seed: int = 0,
    hashes: PhotoHashes | None = None,
) -> TagTable:
    """Split photos into train, val and test, each with its share of every class.

    The split depends on the content of the photos, not on their names or order. Equal and nearly equal photos are in
    one split. If photos have a split already, it is kept and checked.

    Args:
        table: photos with tags.
        images: folder of the photos.
        fractions: of train, val and test.
        seed: another one gives another split.
        hashes: of the photos, if they are computed already.

    Raises:
        ValueError: a photo cannot be read, the same photo is in two splits, or a split has no photo; names it.
    """
    if len(fractions) != len(SPLITS) or min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-6:
        raise ValueError(f"the fractions of {', '.join(SPLITS)} are {tuple(fractions)}: give three with the sum 1")
    hashes = hashes or hash_photos([os.path.join(images, file) for file in table.files])
    if hashes.errors:
        first = next(iter(hashes.errors.values()))
        text = f"{len(hashes.errors)} of {len(table)} photos cannot be read"
        raise ValueError(f"{text}: correct or remove them (wsd check lists all); the first: {first}")
    if table.has_split:
        warnings = check_splits(table, hashes)
        return replace(table, notes=[*table.notes, *warnings]) if warnings else table
    splits = _assign_splits(table, hashes, fractions, seed)
    missing = [name for s, name in enumerate(SPLITS) if not (splits == s).any()]
    if missing:
        raise ValueError(f"{len(table)} photos are too few, no photo is left for {', '.join(missing)}: add photos")
    column = pa.array(np.array(SPLITS)[splits], pa.string())
    counts = ", ".join(f"{(splits == s).sum()} {name}" for s, name in enumerate(SPLITS))
    note = f"The split is by a hash of the photos, seed {seed}: {counts}."
    position = table.table.column_names.index("split")
    return replace(table, table=table.table.set_column(position, "split", column), notes=[*table.notes, note])


def _assign_splits(table: TagTable, hashes: PhotoHashes, fractions: Sequence[float], seed: int) -> np.ndarray:
    """Return (N,) indices of splits."""
    groups = group_photos(hashes)
    key = seed.to_bytes(8, "little", signed=True)
    ranks = [hashlib.blake2b(digest.tobytes(), digest_size=16, key=key).digest() for digest in hashes.digest]
    order = np.array(sorted(range(len(ranks)), key=ranks.__getitem__))
    _, first, numbers = np.unique(groups[order], return_index=True, return_inverse=True)
    numbers = np.argsort(np.argsort(first))[numbers]  # groups by their smallest rank
    group = np.empty_like(numbers)
    group[order] = numbers
    counts = np.zeros((len(first), len(table.classes)), np.int32)
    rows, classes = table.pairs("positive")
    np.add.at(counts, (group[rows], classes), 1)
    return stratify(counts, np.bincount(group), fractions)[group]


def check_splits(table: TagTable, hashes: PhotoHashes) -> list[str]:
    """Check that each split has photos, and none has a photo that another one has.

    Returns:
        A warning that names nearly equal photos in two splits, if there are any: they stay where they are.

    Raises:
        ValueError: names the split, or the photos.
    """
    splits = table.table["split"].to_numpy()
    missing = [name for name in SPLITS if not (splits == name).any()]
    if missing:
        text = f"the given split has no photo for {', '.join(missing)}"
        raise ValueError(f"{text}: add photos with that split, or give no split")
    pairs = find_shared(splits, hashes.digest)
    if len(pairs):
        files = table.table["file"]
        (one, two), rest = pairs[0], f", and {len(pairs) - 1} more are in two splits" if len(pairs) > 1 else ""
        text = f"{files[one]} ({splits[one]}) and {files[two]} ({splits[two]}) are the same photo{rest}"
        raise ValueError(f"{text}: keep each photo in one split")
    near = describe_pairs(table, find_near_shared(splits, hashes))
    rest = f"; and {len(near) - SHOWN} more" if len(near) > SHOWN else ""
    text = f"WARNING {NEAR_SHARED}: {len(near)} ({'; '.join(near[:SHOWN])}{rest}). {NEAR_REMEDY}."
    return [text] if near else []


def describe_pairs(table: TagTable, pairs: np.ndarray) -> list[str]:
    """Return (P, 2) rows of nearly equal photos as text, with their splits."""
    files, splits = table.files, table.table["split"].to_pylist()
    return [f"{files[a]} ({splits[a]}) and {files[b]} ({splits[b]})" for a, b in pairs.tolist()]


def find_shared(splits: np.ndarray, digest: np.ndarray) -> np.ndarray:
    """Return (P, 2) rows: photos with the first photo of the same content, where that is in another split."""
    _, first, inverse = np.unique(digest, return_index=True, return_inverse=True)
    rows = np.flatnonzero(splits[first[inverse]] != splits)
    return np.stack([first[inverse][rows], rows], axis=1)


def find_near_shared(splits: np.ndarray, hashes: PhotoHashes) -> np.ndarray:
    """Return (P, 2) rows: photos with the first photo that is nearly equal, where that is in another split."""
    groups, content = group_photos(hashes), np.unique(hashes.digest, return_inverse=True)[1]
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    one = first[inverse]
    rows = np.flatnonzero((splits[one] != splits) & (content[one] != content))
    return np.stack([one[rows], rows], axis=1)
