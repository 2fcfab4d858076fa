"""CSV, JSON lines and Parquet files as Arrow tables whose rows can be located, in parts or as a whole."""

from __future__ import annotations

import csv
import os
import reprlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from ...io import check_file
from .readers import read_csv, read_json, read_text

if TYPE_CHECKING:
    from typing_extensions import TypeGuard

_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}
FILE_COLUMNS = ("file", "file_name")
PART_ROWS = 65_536  # of a Parquet file that are read at once
_PART_BYTES = 4 << 20  # of a CSV


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


class _File(NamedTuple):
    parts: Iterator[pa.Table]  # not read before they are used
    where: Callable[[int], str]
    notes: list[str]


def read_rows(path: str) -> Rows:
    """Read a CSV, Parquet, JSON-lines or JSON file of photos.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: it is empty or damaged, or has another suffix; names the file and, where known, the line.
    """
    first, *others = iter_rows(path)
    return Rows(pa.concat_tables([first.table, *(rows.table for rows in others)]), first.where, first.notes)


def iter_rows(path: str, *, needs_labels: bool = True) -> Iterator[Rows]:
    """Read a file as ``read_rows`` does, in parts: the memory is that of one part of a CSV or Parquet file.

    JSON lines and JSON are one part. Without ``needs_labels`` those of a JSON list are neither needed nor read.
    """
    file, start = _open(path, needs_labels), 0
    for table in file.parts:
        names = table.column_names
        repeated = [name for name in names if names.count(name) > 1]
        if repeated:
            raise ValueError(f"{path}: the column {repeated[0]!r} is there twice: rename or remove one")
        if table.num_rows:
            yield Rows(table, _shift(file.where, start), file.notes)
            start += table.num_rows
    if not start:
        raise ValueError(f"{path} lists no photos: write a row for each photo")


def locate_row(path: str, row: int) -> str:
    """Return file and line, entry or row of a row, from 0, for an error."""
    return _open(path).where(row)


def _open(path: str, needs_labels: bool = True) -> _File:
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in _READERS:
        raise ValueError(f"{path}: photos with tags are in a file of the type {', '.join(_READERS)}, or in a folder")
    if not os.path.exists(path):
        raise FileNotFoundError(f"{path} is missing: give the path of a file of photos and tags (docs/tags.md)")
    check_file(path)
    if not os.path.getsize(path):
        raise ValueError(f"{path} is empty: write a row for each photo")
    return _READERS[suffix](path) if needs_labels or suffix != ".json" else _read_json(path, needs_labels=False)


def _shift(where: Callable[[int], str], start: int) -> Callable[[int], str]:
    return lambda row: where(row + start)


def _read_csv(path: str) -> _File:
    line = read_text(path, 1_000_000).lstrip("\r\n").splitlines()
    headers = {mark: [name.strip() for name in next(csv.reader(line[:1], delimiter=mark), [])] for mark in _DELIMITERS}
    mark = next((mark for mark in headers if set(FILE_COLUMNS) & set(headers[mark])), ",")
    raw = next(csv.reader(line[:1], delimiter=mark), [])
    notes = [] if mark == "," else [f"{path}: columns are separated by {_DELIMITERS[mark]}."]
    return _File(_csv_parts(path, mark, raw, headers[mark]), lambda row: _locate_in_csv(path, row, mark), notes)


def _csv_parts(path: str, mark: str, raw: list[str], header: list[str]) -> Iterator[pa.Table]:
    try:
        with pa.csv.open_csv(
            path,
            read_options=pa.csv.ReadOptions(block_size=_PART_BYTES),
            parse_options=pa.csv.ParseOptions(delimiter=mark, newlines_in_values=True),
            convert_options=pa.csv.ConvertOptions(
                column_types=dict.fromkeys(raw, pa.string()), strings_can_be_null=False
            ),
        ) as reader:
            for batch in reader:
                yield pa.Table.from_batches([batch]).rename_columns(header)
    except pa.ArrowInvalid as error:
        if mark == ",":
            read_csv(path)  # its error names the line
        raise ValueError(f"{path} is damaged or not CSV in UTF-8: {' '.join(str(error).split())}") from error


def _locate_in_csv(path: str, row: int, delimiter: str) -> str:
    newline = "\n" if "\n" in read_text(path, 1_000_000) else ""  # a field may end in a lone \r
    with open(path, encoding="utf-8-sig", newline=newline) as file:
        reader = csv.reader(file, delimiter=delimiter)
        next(islice((fields for fields in reader if fields), row + 1, None), None)
        return f"{path}, line {reader.line_num}"


def _read_json_lines(path: str) -> _File:
    return _File(_json_lines_parts(path), lambda row: _locate_in_lines(path, row), [])


def _json_lines_parts(path: str) -> Iterator[pa.Table]:
    try:
        yield pa.json.read_json(path, parse_options=pa.json.ParseOptions(newlines_in_values=False))
    except pa.ArrowInvalid as error:
        text = " ".join(str(error).split())
        raise ValueError(f"{path} is damaged, or its lines are not objects of one form: {text}") from error


def _locate_in_lines(path: str, row: int) -> str:
    with open(path, "rb") as file:
        number = next(islice((number for number, line in enumerate(file, 1) if line.strip()), row, None), row + 1)
    return f"{path}, line {number}"


def _read_parquet(path: str) -> _File:
    return _File(_parquet_parts(path), lambda row: f"{path}, row {row + 1}", [])


def _parquet_parts(path: str) -> Iterator[pa.Table]:
    try:
        with pa.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(PART_ROWS):
                yield pa.Table.from_batches([batch])
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path} is damaged or not Parquet: {' '.join(str(error).split())}") from error


def _read_json(path: str, needs_labels: bool = True) -> _File:
    return _File(_json_parts(path, needs_labels), lambda row: f"{path}, entry {row}", [])


def _json_parts(path: str, needs_labels: bool) -> Iterator[pa.Table]:
    """Yield the photos of a JSON list, ``[{"file": "a.jpg", "labels": ["cat", "dog"]}, ...]``."""
    content = read_json(path)
    if not isinstance(content, list):
        raise ValueError(f'{path} is not a list of {{"file": ..., "labels": [...]}}')
    has_labels = needs_labels and any(isinstance(entry, dict) and "labels" in entry for entry in content)
    for position, entry in enumerate(content):
        _check_entry(entry, f"{path}, entry {position}", has_labels)
    columns = {"file": pa.array([entry["file"] for entry in content], pa.string())}
    for key in ("labels", "unknown"):
        if has_labels and any(key in entry for entry in content):
            columns[key] = pa.array([entry.get(key, []) for entry in content], pa.list_(pa.string()))
    if any(entry.get("split") is not None for entry in content):
        splits = [None if entry.get("split") is None else str(entry["split"]) for entry in content]
        columns["split"] = pa.array(splits, pa.string())
    yield pa.table(columns)


def _check_entry(entry: object, location: str, needs_labels: bool) -> None:
    """Raise ValueError if an entry of a JSON list is not a photo with its labels."""
    is_photo = isinstance(entry, dict) and all(is_text_list(entry.get(key, [])) for key in ("labels", "unknown"))
    if not isinstance(entry, dict) or not is_photo or (needs_labels and "labels" not in entry):
        text = f'{location} is not of the form {{"file": "a.jpg", "labels": ["cat", "dog"]}}'
        raise ValueError(f"{text}: {reprlib.repr(entry)}")
    file, split = entry.get("file"), entry.get("split")
    if not isinstance(file, str) or not file.strip():
        raise ValueError(f"{location}: no file name: write one, or remove the entry")
    if split is not None and (isinstance(split, bool) or not isinstance(split, (str, int)) or split == ""):
        raise ValueError(f"{location}: split={split!r}: set it to text")


def is_text_list(value: object) -> TypeGuard[list[str]]:
    """Whether a value of JSON is a list of texts."""
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


_READERS: dict[str, Callable[[str], _File]] = {
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".parquet": _read_parquet,
    ".jsonl": _read_json_lines,
    ".json": _read_json,
}
