"""Readers of text, JSON and CSV files, whose errors name the file and line."""

from __future__ import annotations

import csv
import difflib
import io
import json
import os
from collections.abc import Callable, Sequence
from typing import Any


def read_text(path: str | os.PathLike) -> str:
    """Read UTF-8 text, with or without a byte order mark.

    Raises:
        FileNotFoundError: the file is missing; refers to the description of the datasets.
        ValueError: the file is not UTF-8.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{path} is missing: see datasets/README.md for the files of each dataset")
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            return file.read()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error}): save it as UTF-8") from error


def read_lines(path: str | os.PathLike) -> list[str]:
    """Read the lines that are not blank, stripped."""
    return [line.strip() for line in read_text(path).splitlines() if line.strip()]


def read_json(path: str | os.PathLike, object_hook: Callable | None = None) -> Any:
    """Read JSON, with the ``object_hook`` of ``json.loads``."""
    try:
        return json.loads(read_text(path), object_hook=object_hook)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is truncated or not JSON: {error}") from error


def read_csv(path: str | os.PathLike) -> list[tuple[str, list[str]]]:
    """Read the rows of a CSV file that are not blank, the header first.

    Returns:
        Location ("<file>, line 3", for error messages) and fields of each row.

    Raises:
        ValueError: the file is empty or not CSV, or a row has more or fewer fields than the header.
    """
    reader = csv.reader(io.StringIO(read_text(path), newline=""))
    try:
        rows = [(f"{path}, line {reader.line_num}", row) for row in reader if row]
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: not CSV: {error}") from error
    if not rows:
        raise ValueError(f"{path} is empty")
    width = len(rows[0][1])
    for location, row in rows:
        if len(row) != width:
            raise ValueError(
                f"{location}: {len(row)} fields, the header has {width}; quote fields that contain a comma"
            )
    return rows


def class_indices(labels: Sequence[str], index: dict[str, int], location: str) -> list[int]:
    """Convert class names to sorted indices; ValueError for an unknown name."""
    for label in labels:
        if label not in index:
            near = difflib.get_close_matches(label, index, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f": {', '.join(index)}"
            raise ValueError(f"{location}: label {label!r} is not in the list of {len(index)} classes{hint}")
    return sorted({index[label] for label in labels})
