"""A memory-mapped array on disk with a checksum for each row."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import numpy as np

from wsd_distill.io import atomic_write


class DiskFullError(OSError):
    """The disk has too little space for the rows of a file."""


def check_free_space(folder: Path, size: int) -> None:
    """Raise DiskFullError if the disk of ``folder`` has less than ``size`` bytes."""
    if size > shutil.disk_usage(folder).free:
        raise _disk_full(folder, size)


class RowFile:
    """Rows in ``<name>.npy`` and their checksums in ``<name>.checksums.npy``; 0 marks a row not written yet.

    The files are memory-mapped: writing to one on a full disk kills the process without an error. ``preallocate``
    therefore reserves the space beforehand.
    """

    def __init__(self, folder: Path, name: str):
        self.data_path, self.checksums_path = folder / f"{name}.npy", folder / f"{name}.checksums.npy"

    def exists(self) -> bool:
        """Whether both files are complete; the checksums are created last."""
        return self.checksums_path.exists()

    def preallocate(self, needed: np.ndarray, example: np.ndarray | None = None) -> None:
        """Create the files if ``example`` is given, and reserve disk space for needed rows not written yet.

        Args:
            needed: (M,) booleans, the rows that will be written.
            example: (1, ...) array with the shape and dtype of a row.

        Raises:
            DiskFullError: The disk has too little space; no new file is left behind.
        """
        if example is None:
            return _reserve(self.data_path, needed & (np.load(self.checksums_path) == 0))
        with atomic_write(self.data_path) as tmp_path:
            np.lib.format.open_memmap(tmp_path, "w+", example.dtype, (len(needed), *example.shape[1:]))
            _reserve(tmp_path, needed)
        with atomic_write(self.checksums_path) as tmp_path, open(tmp_path, "wb") as file:
            np.save(file, np.zeros(len(needed), np.uint32))

    def open(self) -> None:
        """Map both files into memory."""
        self.data, self.checksums = (np.load(path, mmap_mode="r+") for path in (self.data_path, self.checksums_path))

    def write(self, rows: np.ndarray, values: np.ndarray, checksums: np.ndarray) -> None:
        """Write rows whose checksum is new; other processes may be reading those that are there."""
        new = self.checksums[rows] != checksums
        self.data[rows[new]] = values[new]
        self.checksums[rows[new]] = checksums[new]  # after the data: a row with a checksum is complete


def _reserve(path: Path, rows: np.ndarray) -> None:
    """Reserve disk space for the given (M,) booleans of rows."""
    data, indices = np.load(path, mmap_mode="r"), np.flatnonzero(rows)
    row_size = data.strides[0]
    try:
        with open(path, "r+b") as file:
            for run in np.split(indices, np.flatnonzero(np.diff(indices) > 1) + 1):
                if len(run):
                    os.posix_fallocate(file.fileno(), data.offset + int(run[0]) * row_size, len(run) * row_size)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise _disk_full(path.parent, len(indices) * row_size) from error


def _disk_full(folder: Path, size: int) -> DiskFullError:
    free = shutil.disk_usage(folder).free
    return DiskFullError(
        f"{folder}: the teacher cache needs {size:,} bytes, the disk has {free:,}. Set distiller.cache.folder to a "
        "disk with more space, or distiller.use_cache=False."
    )
