"""CSV, JSON lines and Parquet files as Arrow tables whose rows can be located."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from ..data.datasets.image_list import read_json_entries
from ..data.datasets.readers import read_csv, read_text
from ..io import check_file

_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}
FILE_COLUMNS = ("file", "file_name")


@dataclass
class Rows:
    """A table, and where its rows are in a file.

    Attributes:
        table: columns as in the file; those of a CSV are strings.
        where: row, from 0 -> file and line, for errors.
        notes: sentences about what was detected.
    """

    table: pa.Table
    where: Callable[[int], str]
    notes: list[str]


def read_rows(path: str) -> Rows:
    """Read a CSV, Parquet, JSON-lines or JSON file of photos.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: it is empty or damaged, or has another suffix; names the file and, where known, the line.
    """
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in _READERS:
        raise ValueError(f"{path}: photos with tags are in a file of the type {', '.join(_READERS)}, or in a folder")
    if not os.path.exists(path):
        raise FileNotFoundError(f"{path} is missing: give the path of a file of photos and tags (docs/tags.md)")
    check_file(path)
    if not os.path.getsize(path):
        raise ValueError(f"{path} is empty: write a row for each photo")
    rows = _READERS[suffix](path)
    names = rows.table.column_names
    repeated = [name for name in names if names.count(name) > 1]
    if repeated:
        raise ValueError(f"{path}: the column {repeated[0]!r} is there twice: rename or remove one")
    if not rows.table.num_rows:
        raise ValueError(f"{path} lists no photos: write a row for each photo")
    return rows


def _read_csv(path: str) -> Rows:
    line = read_text(path, 1_000_000).lstrip("\r\n").splitlines()
    headers = {mark: [name.strip() for name in next(csv.reader(line[:1], delimiter=mark), [])] for mark in _DELIMITERS}
    mark = next((mark for mark in headers if set(FILE_COLUMNS) & set(headers[mark])), ",")
    types = {name: pa.string() for name in next(csv.reader(line[:1], delimiter=mark), [])}
    try:
        table = pa.csv.read_csv(
            path,
            parse_options=pa.csv.ParseOptions(delimiter=mark, newlines_in_values=True),
            convert_options=pa.csv.ConvertOptions(column_types=types, strings_can_be_null=False),
        )
    except pa.ArrowInvalid as error:
        if mark == ",":
            read_csv(path)  # its error names the line
        raise ValueError(f"{path} is damaged or not CSV in UTF-8: {' '.join(str(error).split())}") from error
    notes = [] if mark == "," else [f"{path}: columns are separated by {_DELIMITERS[mark]}."]
    return Rows(table.rename_columns(headers[mark]), lambda row: _locate_in_csv(path, row, mark), notes)


def _locate_in_csv(path: str, row: int, delimiter: str) -> str:
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter)
        next(islice((fields for fields in reader if fields), row + 1, None), None)
        return f"{path}, line {reader.line_num}"


def _read_json_lines(path: str) -> Rows:
    try:
        table = pa.json.read_json(path, parse_options=pa.json.ParseOptions(newlines_in_values=False))
    except pa.ArrowInvalid as error:
        text = " ".join(str(error).split())
        raise ValueError(f"{path} is damaged, or its lines are not objects of one form: {text}") from error
    return Rows(table, lambda row: _locate_in_lines(path, row), [])


def _locate_in_lines(path: str, row: int) -> str:
    with open(path, "rb") as file:
        number = next(islice((number for number, line in enumerate(file, 1) if line.strip()), row, None), row + 1)
    return f"{path}, line {number}"


def _read_parquet(path: str) -> Rows:
    try:
        table = pa.parquet.read_table(path)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path} is damaged or not Parquet: {' '.join(str(error).split())}") from error
    return Rows(table, lambda row: f"{path}, row {row + 1}", [])


def _read_json(path: str) -> Rows:
    entries = list(read_json_entries(path))
    columns = {
        "file": pa.array([entry.name for entry in entries], pa.string()),
        "labels": pa.array([entry.labels for entry in entries], pa.list_(pa.string())),
    }
    if any(entry.split for entry in entries):
        columns["split"] = pa.array([entry.split for entry in entries], pa.string())
    return Rows(pa.table(columns), lambda row: entries[row].location, [])


_READERS: dict[str, Callable[[str], Rows]] = {
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".parquet": _read_parquet,
    ".jsonl": _read_json_lines,
    ".json": _read_json,
}
