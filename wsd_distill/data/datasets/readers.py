"""Readers of text, JSON and CSV files, whose errors name the file and line."""

from __future__ import annotations

import csv
import difflib
import io
import json
import os
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any


def read_text(path: str | os.PathLike, limit: int = -1) -> str:
    """Read UTF-8 text, with or without a byte order mark; up to ``limit`` characters, -1: all.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: the file is not UTF-8.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{path} is missing: see datasets/README.md for the files of each dataset")
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            return file.read(limit)
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
        Location ("<file>, line 3", for error messages) and fields of each row; all rows have as many as the header.
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
            text = f"{len(row)} fields, the header has {width}; quote fields that contain a comma"
            raise ValueError(f"{location}: {text}")
    return rows


def check_unique(images: Iterable[Hashable], location: str | os.PathLike) -> None:
    """Raise ValueError if an image is listed twice."""
    for image, count in Counter(images).items():
        if count > 1:
            raise ValueError(f"{location}: image '{image}' is listed twice")


def class_indices(labels: Sequence[str], classes: Sequence[str], location: str) -> list[int]:
    """Convert class names to sorted indices; raise ValueError for an unknown name."""
    for label in labels:
        if label not in classes:
            near = difflib.get_close_matches(label, classes, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f": {', '.join(classes)}"
            raise ValueError(f"{location}: label {label!r} is not in the list of {len(classes)} classes{hint}")
    return sorted({classes.index(label) for label in labels})
