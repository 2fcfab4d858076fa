"""Readers of text, JSON and CSV files, whose errors name the file and line."""

from __future__ import annotations

import csv
import difflib
import io
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

from ...io import check_file
from .label_names import check_class_names, is_list, spelling, split_joined


def read_text(path: str | os.PathLike, limit: int = -1) -> str:
    """Read UTF-8 text, with or without a byte order mark; up to ``limit`` characters, -1: all.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: it is not a file (a folder, a FIFO), has more than ``$WSD_MAX_TEXT_GB`` (2) gigabytes, or is not
            UTF-8.
    """
    try:
        check_file(path, "WSD_MAX_TEXT_GB", 2)  # JSON takes ten times as much memory
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing: see datasets/README.md for the files of each dataset") from None
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            return file.read(limit)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error}): save it as UTF-8") from error


def read_lines(path: str | os.PathLike) -> list[str]:
    """Read the lines that are not blank, stripped."""
    return [line for _, line in read_numbered_lines(path)]


def read_numbered_lines(path: str | os.PathLike) -> list[tuple[str, str]]:
    """Read the lines that are not blank, stripped, each after its location ("line 3")."""
    lines = re.split(r"\r\n|\r|\n", read_text(path))
    return [(f"line {number}", line.strip()) for number, line in enumerate(lines, 1) if line.strip()]


def read_class_names(source: Sequence[str] | str) -> list[str]:
    """Return the class names of a list, or of a text file with one name per line.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: a name is not text or is twice, there is none, or as in ``check_class_names``.
    """
    if isinstance(source, str):
        numbered, where = read_numbered_lines(source), source
    elif isinstance(source, Sequence):
        numbered, where = [(f"entry {position}", name) for position, name in enumerate(source)], "the classes"
    else:
        raise ValueError(f"dataset.classes={source!r}: set it to a list of names, or to a text file")
    locations: dict[str, str] = {}
    for location, name in numbered:
        if not isinstance(name, str):
            raise ValueError(f"{where}: {location}: class {name!r} is not text: write it in quotes")
        if name in locations:
            raise ValueError(f"{where}: {location}: class {name!r} is listed twice ({locations[name]})")
        locations[name] = location
    if not locations:
        raise ValueError(f"{where}: the list of classes is empty")
    check_class_names(locations, where)
    return list(locations)


def read_json(path: str | os.PathLike, object_hook: Callable[[dict], Any] = dict) -> Any:
    """Read JSON; ``object_hook`` converts each object.

    Raises:
        ValueError: invalid JSON, an object with a key twice, or lists nested too deeply.
    """

    def convert(pairs: list[tuple[str, Any]]) -> Any:
        found = dict(pairs)
        if len(found) < len(pairs):
            repeated = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
            raise ValueError(f"an object has the key {repeated!r} twice")
        return object_hook(found)

    text = read_text(path)
    try:
        return json.loads(text, object_pairs_hook=convert)
    except ValueError as error:  # also an integer of thousands of digits
        raise ValueError(f"{path} is truncated or not JSON: {error}") from error
    except RecursionError:
        raise ValueError(f"{path} is not a list of images: its lists or objects are nested too deeply") from None


def read_csv(path: str | os.PathLike) -> list[tuple[str, list[str]]]:
    """Read the rows of a CSV file that are not blank, the header first.

    Returns:
        Location ("<file>, line 3", for error messages) and fields of each row; all rows have as many as the header.
    """
    text = read_text(path)
    reader = csv.reader(io.StringIO(text, newline="\n" if "\n" in text else ""))  # a field may end in a lone \r
    try:
        rows = [(f"{path}, line {reader.line_num}", row) for row in reader if row]
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: not CSV: {error}") from error
    if not rows:
        raise ValueError(f"{path} is empty")
    width = len(rows[0][1])
    names = [name.strip() for name in rows[0][1]]
    if len(set(names)) < width:
        raise ValueError(f"{rows[0][0]}: the header {names} has a column twice")
    for location, row in rows:
        if len(row) != width:
            text = f"{len(row)} fields, the header has {width}; quote fields that contain a comma"
            raise ValueError(f"{location}: {text}")
    return rows


def check_unique(values: Iterable[Hashable], location: str | os.PathLike, what: str = "image") -> None:
    """Raise ValueError if an image, or ``what`` else the values are, is listed twice."""
    for value, count in Counter(values).items():
        if count > 1:
            raise ValueError(f"{location}: {what} '{value}' is listed twice")


def class_indices(labels: Sequence[str], classes: Sequence[str], location: str) -> list[int]:
    """Convert class names to sorted indices; raise ValueError for an unknown name."""
    for label in labels:
        if label not in classes:
            hint = _describe_unknown(label, classes)
            raise ValueError(f"{location}: label {label!r} is not in the list of {len(classes)} classes{hint}")
    return sorted({classes.index(label) for label in labels})


def _describe_unknown(label: str, classes: Sequence[str]) -> str:
    same = [name for name in classes if spelling(name) == spelling(label)]
    if same:
        return f": it differs from {same[0]!r} in case, white space or Unicode form alone"
    parts = split_joined(label, classes)
    if parts and is_list(label):
        return f": it is written like a Python list; write {';'.join(parts)}"
    if parts:
        return f": it looks like {' and '.join(map(repr, parts))}; set dataset.separator (datasets/README.md)"
    near = difflib.get_close_matches(label, classes, n=1)
    return f"; did you mean {near[0]!r}?" if near else f": {', '.join(classes)}"
