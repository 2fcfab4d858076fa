"""File names of listed photos: inside the folder, different, and there."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..data.datasets.faults import RowFaults
from ..data.datasets.image_paths import is_remote

_UNUSUAL = r"^/|^~|//|(^|/)\.\.?(/|$)|/$|\x00|://"  # names that normalizing or checking may change


def normalize_names(file: pa.Array, images: str | None, where: Callable[[int], str], faults: RowFaults) -> pa.Array:
    """Return file names in their shortest form, relative to the folder ``images``; null for names with faults.

    Faults are names that are an address or leave the folder, and photos that are listed twice.

    Raises:
        ValueError: there is a fault, and faults are not collected; names the lines.
    """
    unusual = np.flatnonzero(pc.match_substring_regex(file, _UNUSUAL).to_numpy(zero_copy_only=False))
    if len(unusual):
        given = file.take(pa.array(unusual)).to_pylist()
        names = [_normalize(name, images) for name in given]
        _add_name_faults(given, names, unusual, images, where, faults)
        mask = np.zeros(len(file), bool)
        mask[unusual] = True
        file = pc.replace_with_mask(file, pa.array(mask), pa.array(names, pa.string()))
    codes = file.dictionary_encode()
    if len(codes.dictionary) + file.null_count < len(file):
        _add_duplicates(codes.indices.fill_null(-1).to_numpy(), file, where, faults)
    return file


def _normalize(name: str, images: str | None) -> str | None:
    if is_remote(name) or "\0" in name:
        return None
    path = os.path.normpath(name)
    if os.path.isabs(path) and images is not None:
        path = os.path.relpath(path, os.path.abspath(images))
    if os.path.isabs(path) or path.split(os.sep)[0] in ("..", "."):
        return None
    return path


def _add_name_faults(
    given: list[str],
    names: list[str | None],
    rows: np.ndarray,
    images: str | None,
    where: Callable[[int], str],
    faults: RowFaults,
) -> None:
    wrong = {row: name for row, name, path in zip(rows.tolist(), given, names) if path is None}
    remote = [row for row, name in wrong.items() if is_remote(name)]
    zero = [row for row, name in wrong.items() if "\0" in name and not is_remote(name)]
    outside = sorted(set(wrong) - {*remote, *zero})
    folder = "of the photos" if images is None else images
    for text, chosen, what, remedy in (
        ("Names that are addresses", remote, "is an address", "download the photo, and write its file name"),
        ("Names with a zero byte", zero, "has a zero byte", "correct it"),
        (
            "Names that are outside of the folder of the photos",
            outside,
            f"is outside of the folder {folder}",
            "write names relative to --images",
        ),
    ):
        faults.add(text, remedy, chosen, lambda row, what=what: f"{where(row)}: {wrong[row]!r} {what}")  # type: ignore[misc]


def _add_duplicates(codes: np.ndarray, file: pa.Array, where: Callable[[int], str], faults: RowFaults) -> None:
    order = np.argsort(codes, kind="stable")
    equal = (codes[order][1:] == codes[order][:-1]) & (codes[order][1:] >= 0)
    seconds = np.sort(order[1:][equal])

    def describe(row: int) -> str:
        first = int(np.argmax(codes == codes[row]))
        return f"{where(row)}: {file[row].as_py()!r} is already listed ({where(first)})"

    faults.add("Photos that are listed again", "remove one of the rows", seconds, describe)


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
