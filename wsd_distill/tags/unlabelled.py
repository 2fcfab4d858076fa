"""Photos without tags, for the students that a teacher trains: without those that evaluations use."""

from __future__ import annotations

import os

import numpy as np

from ..data.datasets.image_list import load_unlabelled
from .hashes import PhotoHashes, group_photos, hash_photos
from .table import TagTable

_SHOWN = 3  # photos that a note names


def find_unlabelled(
    source: str | os.PathLike, table: TagTable, images: str | os.PathLike, hashes: PhotoHashes
) -> tuple[list[str], list[str]]:
    """List the photos of a folder or list that no tagged photo is equal or nearly equal to, and that can be read.

    A copy of a validation or test photo would make results too good; also one that only other copies link to it is
    left out. A copy of a training photo has its tags already.

    Args:
        source: folder with its subfolders; or a CSV, JSON or COCO list of photos, whose names are relative to
            ``images``, and whose tags are not read.
        table: tagged photos with their split.
        images: folder of the tagged photos.
        hashes: of the tagged photos.

    Returns:
        Absolute paths, and notes about what was left out.

    Raises:
        FileNotFoundError: ``source`` does not exist.
        ValueError: ``source`` has no photo, or none is left.
    """
    check_exists(source)
    records = load_unlabelled(os.fspath(source), os.fspath(images), None, len(table.classes), allow_outside=True)
    files = [os.path.abspath(record["file_name"]) for record in records]
    found = hash_photos(files)
    groups = group_photos(_join(hashes, found))
    tagged, added = groups[: len(table)], groups[len(table) :]
    is_train = table.table["split"].to_numpy() == "train"
    unreadable = np.isin(np.arange(len(files)), list(found.errors))
    held_out = np.isin(added, tagged[~is_train]) & ~unreadable
    labelled = np.isin(added, tagged) & ~held_out & ~unreadable
    kept = ~(unreadable | held_out | labelled)
    reasons = {
        "val or test has the same or nearly the same photo": held_out,
        "a tagged training photo is the same or nearly the same": labelled,
        "they cannot be read": unreadable,
    }
    notes = [f"Photos without tags: {int(kept.sum())} of {len(files)} are used."]
    notes += [_describe(reason, files, mask) for reason, mask in reasons.items() if mask.any()]
    if not kept.any():
        raise ValueError(f"--unlabelled {source} has no photo to train on. {' '.join(notes)} Give other photos")
    return [files[row] for row in np.flatnonzero(kept)], notes


def check_exists(source: str | os.PathLike) -> None:
    """Raise FileNotFoundError if there is no such folder or list."""
    if not os.path.exists(source):
        raise FileNotFoundError(f"--unlabelled {source} does not exist: give a folder or a list of photos")


def _join(one: PhotoHashes, two: PhotoHashes) -> PhotoHashes:
    errors = {**one.errors, **{row + len(one.digest): error for row, error in two.errors.items()}}
    return PhotoHashes(
        digest=np.concatenate([one.digest, two.digest]),
        difference=np.concatenate([one.difference, two.difference]),
        has_difference=np.concatenate([one.has_difference, two.has_difference]),
        errors=errors,
    )


def _describe(reason: str, files: list[str], mask: np.ndarray) -> str:
    rows = np.flatnonzero(mask)
    shown = ", ".join(files[row] for row in rows[:_SHOWN]) + (", ..." if len(rows) > _SHOWN else "")
    return f"{len(rows)} are left out, because {reason}: {shown}."
