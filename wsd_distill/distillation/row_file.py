"""A memory-mapped array on disk with checksums of each row."""

from __future__ import annotations

import errno
import os
import shutil
import zlib
from pathlib import Path
from typing import cast

import numpy as np

from wsd_distill.io import atomic_write

REMEDY = "Delete {folder}, which is then computed again."


class DamagedCacheError(RuntimeError):
    """A file of the cache is missing or damaged; names the file."""

    def __init__(self, path: Path, fault: str):
        super().__init__(f"{path} {fault}. {REMEDY.format(folder=path.parent)}")


class DiskFullError(OSError):
    """The disk has too little space for the rows of a file."""


def check_free_space(folder: Path, size: int) -> None:
    """Raise DiskFullError if the disk of ``folder`` has less than ``size`` bytes."""
    if size > shutil.disk_usage(folder).free:
        raise _disk_full(folder, size)


def check_kind(path: Path) -> None:
    """Raise DamagedCacheError if ``path`` exists and is no regular file."""
    if path.exists() and not path.is_file():
        raise DamagedCacheError(path, "is a folder, pipe or device, not a file of the cache")


class RowFile:
    """Rows in ``<name>.npy``, and in ``<name>.checksums.npy`` two checksums of each, (M, 2) uint32.

    The first is the caller's, of the input that a row was computed from; 0 marks a row not written yet. The second is
    the CRC-32 of the row's bytes, its shape and dtype, ``identity`` and the first one.

    The files are memory-mapped: writing to one on a full disk kills the process without an error. ``preallocate``
    therefore reserves the space beforehand.

    Args:
        folder: of both files.
        name: of the array.
        shape: of the array, (M, ...); None for sides that only its file defines.
        dtype: of the array.
        identity: what all rows depend on.
    """

    def __init__(self, folder: Path, name: str, *, shape: tuple[int | None, ...], dtype: type, identity: str):
        self.data_path, self.checksums_path = folder / f"{name}.npy", folder / f"{name}.checksums.npy"
        self.shape, self.dtype, self._identity = shape, np.dtype(dtype), f"{name} {identity}"

    def exists(self) -> bool:
        """Whether both files are complete; the checksums are created last.

        Raises:
            DamagedCacheError: only the checksums are there, or something that is not a file.
        """
        for path in (self.data_path, self.checksums_path):
            check_kind(path)
        if self.checksums_path.exists() and not self.data_path.exists():
            raise DamagedCacheError(self.data_path, "is missing")
        return self.checksums_path.exists()

    def preallocate(self, example: np.ndarray | None = None) -> None:
        """Create the files if ``example`` is given, and reserve disk space for rows not written yet.

        Args:
            example: (1, ...) array with the shape and dtype of a row.

        Raises:
            DiskFullError: The disk has too little space; no new file is left behind.
            DamagedCacheError: as ``open``.
        """
        if example is None:
            self.open()
            return _reserve(self.data_path, self.checksums[:, 0] == 0)
        count = cast(int, self.shape[0])
        with atomic_write(self.data_path) as tmp_path:
            np.lib.format.open_memmap(tmp_path, "w+", example.dtype, (count, *example.shape[1:]))
            _reserve(tmp_path, np.ones(count, dtype=bool))
        with atomic_write(self.checksums_path) as tmp_path, open(tmp_path, "wb") as file:
            np.save(file, np.zeros((count, 2), np.uint32))

    def open(self) -> None:
        """Map both files into memory.

        Raises:
            DamagedCacheError: a file is missing, cannot be read as an array, or has another shape or dtype.
        """
        self.data = _open(self.data_path, self.shape, self.dtype)
        self.checksums = _open(self.checksums_path, (self.shape[0], 2), np.dtype(np.uint32))
        described = f"{self._identity} {self.data.dtype.str} {self.data.shape[1:]}"
        self._seed = zlib.crc32(described.encode())

    def write(self, rows: np.ndarray, values: np.ndarray, inputs: np.ndarray) -> None:
        """Write rows whose input is new; other processes may be reading those that are there.

        Args:
            rows: (n,) indices.
            values: (n, ...).
            inputs: (n,) checksums of the inputs, not 0.
        """
        for row, value, checksum in zip(rows, values, inputs):
            if self.checksums[row, 0] != checksum:
                self.data[row] = value
                self.checksums[row, 1] = self._checksum(value, checksum)
                self.checksums[row, 0] = checksum  # last: a row with this checksum is complete

    def read(self, rows: list[int]) -> np.ndarray:
        """Return a copy of the given rows.

        Raises:
            DamagedCacheError: bytes of a row differ from those written.
        """
        values = self.data[rows]
        for row, value in zip(rows, values):
            if self._checksum(value, self.checksums[row, 0]) != self.checksums[row, 1]:
                raise DamagedCacheError(self.data_path, f"or its checksums are damaged in row {row}")
        return values

    def _checksum(self, value: np.ndarray, checksum: np.uint32) -> int:
        return zlib.crc32(np.ascontiguousarray(value).data, zlib.crc32(checksum.tobytes(), self._seed))


def _open(path: Path, shape: tuple[int | None, ...], dtype: np.dtype) -> np.memmap:
    check_kind(path)
    try:
        np.lib.format.open_memmap(path, mode="r")  # raises if the file is truncated, which "r+" would extend
        array = np.lib.format.open_memmap(path, mode="r+")
    except PermissionError:
        raise
    except Exception as error:  # on damaged headers, NumPy raises anything from OverflowError to tokenize.TokenError
        fault = "is missing" if isinstance(error, FileNotFoundError) else "is truncated or not a NumPy array"
        raise DamagedCacheError(path, fault) from error
    fits = len(array.shape) == len(shape) and all(n in (None, m) for n, m in zip(shape, array.shape))
    if not fits or array.dtype != dtype:
        wanted = f"({', '.join('any' if n is None else str(n) for n in shape)}) of {dtype}"
        raise DamagedCacheError(path, f"has the shape {array.shape} of {array.dtype}, expected {wanted}")
    return array


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
