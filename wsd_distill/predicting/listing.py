"""Files of folders and globs in sorted order, one folder's names in memory at a time."""

from __future__ import annotations

import fnmatch
import glob
import hashlib
import heapq
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from ..io import IMAGE_SUFFIXES

logger = logging.getLogger(__name__)

BLOCK = 65_536  # names or hashes that are kept as Python objects at once


def is_image(name: str) -> bool:
    """Return whether a file has the suffix of an image."""
    return name.lower().endswith(IMAGE_SUFFIXES)


def walk_folder(folder: str) -> Iterator[str]:
    """Yield the images of a folder, sorted, then those of each folder in it; links to folders are not followed.

    Raises:
        OSError: a folder cannot be read.
    """
    folders: list[str] = []

    def is_file(entry: os.DirEntry) -> bool:
        if not _is_folder(entry):
            return is_image(entry.name)
        if not entry.is_symlink():
            folders.append(entry.name)
        return False

    for name in sorted_names(folder, is_file):
        yield os.path.join(folder, name)
    for name in sorted(folders):
        yield from walk_folder(os.path.join(folder, name))


def has_image(folder: str) -> bool:
    """Return whether a folder, or one below it, has an image; stops at the first."""
    with os.scandir(folder) as entries:
        folders = []
        for entry in entries:
            if not _is_folder(entry):
                if is_image(entry.name):
                    return True
            elif not entry.is_symlink():
                folders.append(entry.path)
    return any(map(has_image, folders))


def match_glob(pattern: str) -> Iterator[str]:
    """Yield the paths that a glob matches; the names in each folder are sorted, files come before folders of ``**``.

    ``**`` stands for any number of folders, and follows no links; at the end it is the folder itself, and a last part
    after it matches files only. As in the standard library, wildcards match no name that begins with a dot, and a
    folder that cannot be read has no matches. A pattern with two ``**`` can have a path twice.
    """
    parts = [part for part in pattern.split("/") if part]
    steps = [part for part, before in zip(parts, [None, *parts]) if part != "**" or before != "**"]
    if pattern.endswith("/"):
        steps.append("")
    yield from _match("/" if pattern.startswith("/") else "", steps)


def _match(folder: str, steps: list[str], files_only: bool = False) -> Iterator[str]:
    """Yield the paths below ``folder`` that match one step per folder; the step "" is the folder itself."""
    step, rest = steps[0], steps[1:]
    if step == "**":
        if not rest:
            yield folder or "."
            return
        yield from _match(folder, rest, True)
        for name in _names(folder, lambda entry: _is_visible(entry.name) and entry.is_dir(follow_symlinks=False)):
            yield from _match(os.path.join(folder, name), steps)
    elif glob.has_magic(step):
        matches, hidden = re.compile(fnmatch.translate(step)).match, step.startswith(".")

        def is_match(entry: os.DirEntry) -> bool:
            if not matches(entry.name) or not (hidden or _is_visible(entry.name)):
                return False
            return _is_folder(entry) if rest else not (files_only and _is_folder(entry))

        for name in _names(folder, is_match):
            path = os.path.join(folder, name)
            yield from _match(path, rest, files_only) if rest else [path]
    else:
        path = os.path.join(folder, step)
        if rest:
            yield from _match(path, rest, files_only) if os.path.isdir(path) else []
        elif os.path.lexists(path) and not (step and files_only and os.path.isdir(path)):
            yield path


def _is_folder(entry: os.DirEntry) -> bool:
    """Return whether an entry is a folder or a link to one; a link in a circle, where ``is_dir`` raises, is a file."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _is_visible(name: str) -> bool:
    return not name.startswith(".")


def _names(folder: str, keep: Callable[[os.DirEntry], bool]) -> Iterable[str]:
    try:
        return sorted_names(folder or ".", keep)
    except OSError:
        return ()


def sorted_names(folder: str, keep: Callable[[os.DirEntry], bool]) -> Iterator[str]:
    """Return an iterator over the sorted names in a folder for which ``keep`` is true; the folder is read now.

    Memory is that of the names' bytes, each padded to the longest of its block.
    """
    blocks: list[np.ndarray] = []
    names: list[bytes] = []

    def flush() -> None:
        blocks.append(np.sort(np.array(names)))
        names.clear()

    with os.scandir(folder) as entries:
        for entry in entries:
            if keep(entry):
                names.append(os.fsencode(entry.name))
                if len(names) == BLOCK:
                    flush()
    if names:
        flush()
    return (os.fsdecode(bytes(name)) for name in heapq.merge(*blocks))


class FirstOnly:
    """Filter of files: true at the first time, by the path without links. Logs a warning at the first repeat.

    Keeps 8 bytes per file. Two of ten million files have the same hash with a probability of 3 in a million.
    """

    def __init__(self):
        self._has_warned = False
        self._recent: set[int] = set()
        self._sorted = np.zeros(0, np.uint64)

    def __call__(self, path: str) -> bool:
        """Return whether ``path`` is new."""
        digest = hashlib.blake2b(os.fsencode(os.path.realpath(path)), digest_size=8).digest()
        key = int.from_bytes(digest, "little")
        i = int(np.searchsorted(self._sorted, np.uint64(key)))
        if key in self._recent or (i < len(self._sorted) and self._sorted[i] == key):
            if not self._has_warned:
                logger.warning("%s is given more than once: each photo is predicted once", path)
            self._has_warned = True
            return False
        self._recent.add(key)
        if len(self._recent) == BLOCK:
            self._sorted = np.concatenate([self._sorted, np.fromiter(self._recent, np.uint64, BLOCK)])
            self._sorted.sort()
            self._recent.clear()
        return True
