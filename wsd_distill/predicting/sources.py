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
from .listing import FirstOnly, has_image, is_image, match_glob, walk_folder

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")
SHARD_SUFFIXES = (*TAR_SUFFIXES, ".parquet")  # of files with many photos
PATH_COLUMNS = ("file", "file_name", "filename", "path", "file_path", "image_path", "image")
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_CAN_REPEAT = re.compile(rf"{_RANGE.pattern}|\*\*.*(\*\*|/$)")  # sources that can have a file twice


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

    A photo or shard that several sources have is yielded once, and a warning is logged. Rows of Parquet files are all
    yielded.

    Memory does not grow with the number of photos, except by the names in one folder and, where sources can have files
    in common, 8 bytes per file. Shards stay open in turn. A shard that cannot be read to its end yields a last photo
    with the name of the shard, whose ``load`` raises the error.

    Args:
        sources: files, folders (with all photos below them), globs, and ranges such as ``shards/{000..099}.tar``.
        column: column of Parquet files with paths or bytes; None: the only one that can be it.

    Raises:
        FileNotFoundError, ValueError: as in :func:`check_sources`; raised before the first photo.
    """
    check_sources(sources, column)
    return (photo for path in list_files(sources) for photo in open_source(path, column))


def check_sources(sources: list[str], column: str | None = None) -> None:
    """Check that each source has a photo, and the columns of Parquet files. Of a folder or glob the first is read.

    Raises:
        FileNotFoundError: a source is missing.
        ValueError: a source has no photos, or the column of a Parquet file is unknown. All Parquet files of a glob are
            checked if it ends with their suffix.
    """
    for source in sources:
        is_empty = True
        for pattern in _expand_ranges(source):
            for path in _find(pattern):
                has_photo = has_image(path) if os.path.isdir(path) else any(True for _ in open_source(path, column))
                is_empty &= not has_photo
                if has_photo and not path.lower().endswith(".parquet"):
                    break
        if is_empty:
            raise ValueError(f"{source} has no photos ({', '.join(IMAGE_SUFFIXES)}): {_hint(source)}")


def list_files(sources: list[str]) -> Iterator[str]:
    """Yield the files of all sources, each once: photos, also those of folders, and shards; repeats log a warning."""
    files = (
        file
        for source in sources
        for path in expand_source(source)
        for file in (walk_folder(path) if os.path.isdir(path) else [path])
    )
    if len(sources) == 1 and not _CAN_REPEAT.search(sources[0]):
        return files
    return filter(FirstOnly(), files)


def expand_source(source: str) -> Iterator[str]:
    """Yield the paths of a source: itself if it exists, else those of its ranges and globs.

    Raises:
        FileNotFoundError: one of the paths is missing, or nothing matches a glob.
    """
    return (path for pattern in _expand_ranges(source) for path in _find(pattern))


def _expand_ranges(source: str) -> Iterator[str]:
    found = None if os.path.exists(source) else _RANGE.search(source)
    if found is None:
        yield source
        return
    first, last = (int(number) for number in found.groups())
    if first > last:
        raise ValueError(f"{source}: the range {found[0]} is empty: write the smaller number first")
    for number in range(first, last + 1):
        yield from _expand_ranges(source.replace(found[0], str(number).zfill(len(found[1])), 1))


def _find(pattern: str) -> Iterator[str]:
    """Yield the path ``pattern`` if it exists, else the matches of the glob."""
    if os.path.exists(pattern):
        yield pattern
        return
    remedy = "give a photo, a folder, a .tar or a .parquet file"
    if not glob.has_magic(pattern):
        raise FileNotFoundError(f"{pattern} does not exist: {remedy}")
    paths = match_glob(pattern)
    if (path := next(paths, None)) is None:
        raise FileNotFoundError(f"nothing matches the pattern {pattern}: correct it, or {remedy}")
    yield path
    yield from paths


def open_source(path: str, column: str | None = None) -> Iterator[Photo]:
    """Yield the photos of one folder, shard or file; a file that is not a shard is a photo, whatever its suffix."""
    if os.path.isdir(path):
        return (make_photo(file, partial(os.fspath, file)) for file in walk_folder(path))
    if path.lower().endswith(TAR_SUFFIXES):
        return _report_errors(_read_tar(path), path)
    if path.lower().endswith(".parquet"):
        from .parquet_photos import find_column, read_parquet  # imports pyarrow

        return _report_errors(read_parquet(path, *find_column(path, column)), path)
    return iter([make_photo(path, partial(os.fspath, path))])


def make_photo(name: str, load: Callable[[], str | bytes]) -> Photo:
    """Return a photo whose name is valid Unicode."""
    return Photo(os.fsencode(name).decode("utf-8", "replace"), load)


def raise_error(message: str):
    """Raise ValueError; the ``load`` of a photo that cannot be read."""
    raise ValueError(message)


def _hint(source: str) -> str:
    if os.path.isdir(source):
        shards = [name for name in sorted(os.listdir(source)) if name.endswith(SHARD_SUFFIXES)]
        if shards:
            return f"for its shards, write '{os.path.join(source, '*' + Path(shards[0]).suffix)}'"
    return "give another path"


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
