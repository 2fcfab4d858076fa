"""Photos from files, folders, tar shards and Parquet, one after the other."""

from __future__ import annotations

import glob
import os
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from ..io import IMAGE_SUFFIXES, read_limit

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")
PATH_COLUMNS = ("file", "file_name", "filename", "path", "file_path", "image_path", "image")
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


class Photo(NamedTuple):
    """A photo that is not read yet.

    Attributes:
        name: path of the file; in a shard, the path of the shard, a slash and the path inside it.
        load: function that returns the path or the bytes of the file; it may raise ValueError or OSError.
    """

    name: str
    load: Callable[[], str | bytes]


def open_sources(sources: list[str], column: str | None = None) -> Iterator[Photo]:
    """Check all sources, then yield their photos in the order of the arguments; folders and globs are sorted.

    Memory does not grow with the number of photos, except by the names in one folder. Shards stay open in turn. A shard
    that cannot be read to its end yields a last photo with the name of the shard, whose ``load`` raises the error.

    Args:
        sources: files, folders (with all photos below them), globs, and ranges such as ``shards/{000..099}.tar``.
        column: column of Parquet files with paths or bytes; None: the only one that can be it.

    Raises:
        FileNotFoundError: a source is missing; raised before the first photo.
        ValueError: a source has no photos, or the column of a Parquet file is unknown; raised before the first photo.
    """
    paths = []
    for source in sources:
        found = expand_source(source)
        for path in found:
            open_source(path, column)  # finds the column of a Parquet file
        if not any(True for path in found for _ in open_source(path, column)):
            raise ValueError(f"{source} has no photos ({', '.join(IMAGE_SUFFIXES)}): {_hint(source)}")
        paths += found
    return (photo for path in paths for photo in open_source(path, column))


def expand_source(source: str) -> list[str]:
    """Return the paths of a source: itself if it exists, else those of its ranges and globs.

    Raises:
        FileNotFoundError: one of the paths is missing.
    """
    if os.path.exists(source):
        return [source]
    if found := _RANGE.search(source):
        first, last = (int(number) for number in found.groups())
        if first > last:
            raise ValueError(f"{source}: the range {found[0]} is empty: write the smaller number first")
        numbers = (str(number).zfill(len(found[1])) for number in range(first, last + 1))
        return [path for number in numbers for path in expand_source(source.replace(found[0], number, 1))]
    paths = sorted(glob.glob(source, recursive=True))
    if not paths:
        raise FileNotFoundError(f"{source} does not exist: give a photo, a folder, a .tar or a .parquet file")
    return paths


def open_source(path: str, column: str | None = None) -> Iterator[Photo]:
    """Yield the photos of one folder, shard or file; a file that is not a shard is a photo, whatever its suffix."""
    if os.path.isdir(path):
        return _walk_folder(path)
    if path.lower().endswith(TAR_SUFFIXES):
        return _report_errors(_read_tar(path), path)
    if path.lower().endswith(".parquet"):
        from .parquet_photos import find_column, read_parquet  # imports pyarrow

        return _report_errors(read_parquet(path, *find_column(path, column)), path)
    return iter([make_photo(path, partial(os.fspath, path))])


def make_photo(name: str, load: Callable[[], str | bytes]) -> Photo:
    """Return a photo whose name is valid Unicode."""
    return Photo(os.fsencode(name).decode("utf-8", "replace"), load)


def is_image(name: str) -> bool:
    """Return whether a file has the suffix of an image."""
    return name.lower().endswith(IMAGE_SUFFIXES)


def raise_error(message: str):
    """Raise ValueError; the ``load`` of a photo that cannot be read."""
    raise ValueError(message)


def _hint(source: str) -> str:
    if os.path.isdir(source):
        shards = [name for name in sorted(os.listdir(source)) if name.endswith((*TAR_SUFFIXES, ".parquet"))]
        if shards:
            return f"for its shards, write '{os.path.join(source, '*' + Path(shards[0]).suffix)}'"
    return "give another path"


def _walk_folder(folder: str) -> Iterator[Photo]:
    def fail(error: OSError):
        raise error

    for parent, folders, files in os.walk(folder, onerror=fail):
        folders.sort()
        for path in (os.path.join(parent, name) for name in sorted(files) if is_image(name)):
            yield make_photo(path, partial(os.fspath, path))


def _read_tar(path: str) -> Iterator[Photo]:
    """Yield the photos of a tar; the bytes of an uncompressed one are read when a photo is loaded."""
    compressed = not path.lower().endswith(".tar")
    with tarfile.open(path, "r:gz" if compressed else "r:") as tar:
        while member := tar.next():
            tar.members.clear()  # type: ignore[attr-defined]  # otherwise tarfile keeps every member
            if member.isreg() and is_image(member.name):
                name = f"{path}/{member.name.removeprefix('./')}"
                yield make_photo(name, _member_loader(tar if compressed else None, path, member))


def _member_loader(tar: tarfile.TarFile | None, path: str, member: tarfile.TarInfo) -> Callable[[], bytes]:
    """Return a function that returns the bytes of a member; with ``tar``, which is read in order, read them now."""
    limit = read_limit("WSD_MAX_IMAGE_MB", 512)
    if member.size > limit * 1e6:
        return partial(raise_error, f"it has more than the {limit:g} MB that WSD_MAX_IMAGE_MB allows: save it smaller")
    if tar is None:
        return partial(_read_range, path, member.offset_data, member.size)
    file = tar.extractfile(member)
    assert file is not None  # a regular file
    return partial(bytes, file.read())


def _read_range(path: str, offset: int, size: int) -> bytes:
    with open(path, "rb") as file:
        file.seek(offset)
        data = file.read(size)
    if len(data) < size:
        raise ValueError(f"{path} is truncated: write it again")
    return data


def _report_errors(photos: Iterator[Photo], path: str) -> Iterator[Photo]:
    """Yield photos; an error of the shard becomes a last photo that raises it when it is loaded."""
    try:
        yield from photos
    except (ValueError, OSError, EOFError, zlib.error, tarfile.TarError) as error:
        text = f"{path} cannot be read to its end ({type(error).__name__}: {error}): write it again"
        yield make_photo(path, partial(raise_error, text))
