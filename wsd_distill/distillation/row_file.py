"""Rows of different lengths on disk, in one file of each rank, with an index and checksums."""

from __future__ import annotations

import errno
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from wsd_distill.io import atomic_write

REMEDY = "Delete {folder}, which is then computed again."
ENTRY = np.dtype([("input", "<u4"), ("content", "<u4"), ("shard", "<u4"), ("size", "<u4"), ("offset", "<u8")])


class DamagedCacheError(RuntimeError):
    """A file of the cache is missing or damaged; names the file."""

    def __init__(self, path: Path, fault: str):
        super().__init__(f"{path} {fault}. {REMEDY.format(folder=path.parent)}")


class DiskFullError(OSError):
    """The disk has too little space for the rows of a file."""


def check_free_space(folder: Path, size: int) -> None:
    """Raise DiskFullError if the disk of ``folder`` has less than ``size`` bytes."""
    free = shutil.disk_usage(folder).free
    if size > free:
        raise DiskFullError(
            f"{folder}: the teacher cache needs about {size:,} bytes more, the disk has {free:,}. Set "
            "distiller.cache.folder to a disk with more space, or distiller.use_cache=False."
        )


def check_kind(path: Path) -> None:
    """Raise DamagedCacheError if ``path`` exists and is no regular file."""
    if path.exists() and not path.is_file():
        raise DamagedCacheError(path, "is a folder, pipe or device, not a file of the cache")


class RowFile:
    """M rows of bytes: contents in ``<name>.<rank>.rows``, and ``<name>.index.npy``, (M,) of ``ENTRY``.

    Each rank appends to its own file, and all read those of all ranks. An entry has the rank (``shard``), offset and
    size of a row and two checksums. ``input`` is the caller's, of what the row was computed from; 0 marks a row not
    written yet. ``content`` is the CRC-32 of the row's bytes, ``identity`` and ``input``.

    Args:
        folder: of the files.
        name: of the rows.
        rows: M.
        identity: what all rows depend on.
    """

    def __init__(self, folder: Path, name: str, *, rows: int, identity: str):
        self.index_path, self._rows = folder / f"{name}.index.npy", rows
        self._shard_path = str(folder / f"{name}.{{}}.rows")
        self._seed = zlib.crc32(f"{name} {identity}".encode())
        self._maps: dict[int, np.memmap] = {}

    def exists(self) -> bool:
        """Whether the index is there; raises DamagedCacheError if it is no file."""
        check_kind(self.index_path)
        return self.index_path.exists()

    def create(self) -> None:
        """Write an index without rows."""
        with atomic_write(self.index_path) as tmp_path, open(tmp_path, "wb") as file:
            np.save(file, np.zeros(self._rows, ENTRY))

    def open(self) -> None:
        """Map the index into memory.

        Raises:
            DamagedCacheError: it cannot be read, has another shape or dtype, or a file of rows is missing or truncated.
        """
        self.index = _open(self.index_path, (self._rows,))
        for shard in np.unique(self.index["shard"][~self.missing]).tolist():
            self._check_shard(shard)

    @property
    def missing(self) -> np.ndarray:
        """(M,) booleans of the rows not written yet."""
        return np.asarray(self.index["input"] == 0)

    @property
    def mean_size(self) -> float:
        """Mean bytes of a written row; 0 if there is none."""
        sizes = self.index["size"][~self.missing]
        return float(sizes.mean()) if len(sizes) else 0.0

    @contextmanager
    def writing(self, rank: int) -> Iterator[None]:
        """Open the file of this rank for ``write``; what a killed process left after its last row is removed.

        Raises:
            DamagedCacheError: the file is not a regular file.
        """
        path = self._path(rank)
        check_kind(path)
        entries = self.index[~self.missing & (self.index["shard"] == rank)]
        end = int((entries["offset"] + entries["size"]).max(initial=0))
        path.touch()
        with open(path, "r+b", buffering=0) as file:
            file.truncate(end)
            file.seek(end)
            self._file, self._rank = file, rank
            yield

    def write(self, row: int, content: bytes, checksum: int) -> None:
        """Append a row, unless one with this input is there; other processes may be reading.

        Args:
            row: index of the row.
            content: its bytes.
            checksum: of its input, not 0.

        Raises:
            DiskFullError: the disk is full; rows written so far are kept.
        """
        entry = self.index[row : row + 1]
        if entry["input"] == checksum:
            return
        offset = self._file.tell()
        _append(self._file, content, self._path(self._rank))
        entry["shard"], entry["offset"], entry["size"] = self._rank, offset, len(content)
        entry["content"] = self._checksum(content, checksum)
        entry["input"] = checksum  # last: a row with this checksum is complete

    def read(self, row: int) -> bytes:
        """Return the bytes of a row.

        Raises:
            DamagedCacheError: they differ from those written.
        """
        checksum, crc, shard, size, offset = self.index[row].item()
        if shard not in self._maps or len(self._maps[shard]) < offset + size:
            self._check_shard(shard)  # it has grown since it was mapped, or the entry is damaged
            self._maps[shard] = np.memmap(self._path(shard), np.uint8, "r")
        content = self._maps[shard][offset : offset + size].tobytes()
        if self._checksum(content, checksum) != crc:
            raise DamagedCacheError(self._path(shard), f"or its index is damaged in row {row}")
        return content

    def _path(self, shard: int) -> Path:
        return Path(self._shard_path.format(shard))

    def _check_shard(self, shard: int) -> None:
        path = self._path(shard)
        check_kind(path)
        if not path.exists():
            raise DamagedCacheError(path, "is missing")
        length = np.uint64(path.stat().st_size)
        entries = self.index[~self.missing & (self.index["shard"] == shard)]
        if (entries["size"] > length - np.minimum(entries["offset"], length)).any():
            raise DamagedCacheError(path, "is truncated, or its index is damaged")

    def _checksum(self, content: bytes, checksum: int) -> int:
        return zlib.crc32(content, zlib.crc32(int(checksum).to_bytes(4, "little"), self._seed))


def _append(file: BinaryIO, content: bytes, path: Path) -> None:
    try:
        while content:
            content = content[file.write(content) :]
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DiskFullError(
            f"{path}: the disk is full. Free space and start again, which keeps the images written so far, or set "
            "distiller.cache.folder to a disk with more space, or distiller.use_cache=False."
        ) from error


def _open(path: Path, shape: tuple[int, ...]) -> np.memmap:
    check_kind(path)
    try:
        np.lib.format.open_memmap(path, mode="r")  # raises if the file is truncated, which "r+" would extend
        array = np.lib.format.open_memmap(path, mode="r+")
    except PermissionError:
        raise
    except Exception as error:  # on damaged headers, NumPy raises anything from OverflowError to tokenize.TokenError
        fault = "is missing" if isinstance(error, FileNotFoundError) else "is truncated or not a NumPy array"
        raise DamagedCacheError(path, fault) from error
    if array.shape != shape or array.dtype != ENTRY:
        raise DamagedCacheError(path, f"has the shape {array.shape} of {array.dtype}, expected {shape} of {ENTRY}")
    return array
