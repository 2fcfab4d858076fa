"""Reading the files that datasets are described by. Every error names the file and, where there is one, the line."""

from __future__ import annotations

import csv
import difflib
import io
import json
import os
from collections.abc import Callable, Sequence
from typing import Any


def read_text(path: str | os.PathLike) -> str:
    """UTF-8 text, with a byte order mark or without.

    Raises:
        FileNotFoundError: says where the expected trees are described. ValueError: no UTF-8.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{path} is missing: datasets/README.md shows which files a dataset consists of")
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            return file.read()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no UTF-8 text ({error}): save it as UTF-8") from error


def read_lines(path: str | os.PathLike) -> list[str]:
    """The lines that are not blank, without white space around them."""
    return [line.strip() for line in read_text(path).splitlines() if line.strip()]


def read_json(path: str | os.PathLike, object_hook: Callable | None = None) -> Any:
    """
    Raises:
        ValueError: no JSON.
    """
    try:
        return json.loads(read_text(path), object_hook=object_hook)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is no JSON, or cut short: {error}") from error


def read_csv(path: str | os.PathLike) -> list[tuple[str, list[str]]]:
    """Place ("<file>, line 3") and fields of each row that is not blank, the header's first.

    Raises:
        ValueError: no CSV, no row, or a row with more or fewer fields than the header.
    """
    reader = csv.reader(io.StringIO(read_text(path), newline=""))
    try:
        rows = [(f"{path}, line {reader.line_num}", row) for row in reader if row]
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: no CSV: {error}") from error
    if not rows:
        raise ValueError(f"{path} is empty")
    width = len(rows[0][1])
    for place, row in rows:
        if len(row) != width:
            raise ValueError(f"{place}: {len(row)} fields, the header has {width}; quote fields that hold a comma")
    return rows


def class_indices(labels: Sequence[str], index: dict[str, int], place: str) -> list[int]:
    """Sorted indices of ``labels``.

    Raises:
        ValueError: a label that is no class; names it and the place.
    """
    for label in labels:
        if label not in index:
            near = difflib.get_close_matches(label, index, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f": {', '.join(index)}"
            raise ValueError(f"{place}: label {label!r} is not in the list of {len(index)} classes{hint}")
    return sorted({index[label] for label in labels})
