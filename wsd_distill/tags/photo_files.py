"""File names of listed photos: inside the folder, different, and there."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..data.datasets.image_paths import is_remote

_UNUSUAL = r"^/|^~|//|(^|/)\.\.?(/|$)|/$|\x00|://"  # names that normalizing or checking may change


def normalize_names(file: pa.Array, images: str | None, where: Callable[[int], str]) -> pa.Array:
    """Return file names in their shortest form, relative to the folder ``images``.

    Raises:
        ValueError: a name is an address or leaves the folder, or a photo is listed twice; names the lines.
    """
    unusual = np.flatnonzero(pc.match_substring_regex(file, _UNUSUAL).to_numpy(zero_copy_only=False))
    if len(unusual):
        names = [_normalize(file[row].as_py(), images, where(row)) for row in unusual.tolist()]
        mask = np.zeros(len(file), bool)
        mask[unusual] = True
        file = pc.replace_with_mask(file, pa.array(mask), pa.array(names, pa.string()))
    codes = file.dictionary_encode()
    if len(codes.dictionary) < len(file):
        _raise_duplicate(codes.indices.to_numpy(), file, where)
    return file


def _normalize(name: str, images: str | None, location: str) -> str:
    if is_remote(name):
        raise ValueError(f"{location}: {name!r} is an address: download the photo, and write its file name")
    if "\0" in name:
        raise ValueError(f"{location}: the file name {name!r} has a zero byte: correct it")
    path = os.path.normpath(name)
    if os.path.isabs(path) and images is not None:
        path = os.path.relpath(path, os.path.abspath(images))
    if os.path.isabs(path) or path.split(os.sep)[0] in ("..", "."):
        folder = "of the photos" if images is None else images
        raise ValueError(f"{location}: {name!r} is outside of the folder {folder}: write names relative to --images")
    return path


def _raise_duplicate(codes: np.ndarray, file: pa.Array, where: Callable[[int], str]) -> None:
    order = np.argsort(codes, kind="stable")
    second = np.min(order[1:][codes[order][1:] == codes[order][:-1]])
    first = int(np.argmax(codes == codes[second]))
    text = f"{where(int(second))}: {file[int(second)].as_py()!r} is already listed ({where(first)})"
    raise ValueError(f"{text}: remove one of the rows")


def find_missing(file: pa.Array, images: str | os.PathLike) -> np.ndarray:
    """Return the rows of files that are not in the folder ``images``; each folder is listed once."""
    folders = pc.unique(pc.replace_substring_regex(file, r"[^/]*$", "")).to_pylist()
    found = [f"{folder}{name}" for folder in folders for name in _list_files(os.path.join(images, folder))]
    return np.flatnonzero(~pc.is_in(file, pa.array(found, pa.string())).to_numpy(zero_copy_only=False))


def _list_files(folder: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries if entry.is_file()]
    except (FileNotFoundError, NotADirectoryError):
        return []


def check_found(file: pa.Array, images: str, where: Callable[[int], str]) -> None:
    """Raise FileNotFoundError if a photo is not in the folder ``images``; names the first."""
    missing = find_missing(file, images)
    if len(missing):
        row = int(missing[0])
        text = f"{where(row)}: {file[row].as_py()!r} is not in {images}"
        rest = f", nor are {len(missing) - 1} others of {len(file)} photos" if len(missing) > 1 else ""
        raise FileNotFoundError(f"{text}{rest}: correct the names or --images")
