"""Results as Parquet, CSV or JSON lines.

A record is a dict: ``file``, ``labels`` (names, best first), ``probabilities`` (in the same order), ``error`` (None or
a sentence) and, where they are asked for, ``all`` (a probability per class, in the order of the classes, or None) and
``boxes`` (dicts of ``label``, ``x0``, ``y0``, ``x1``, ``y1`` and ``score``, in the order of the labels).
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, TextIO

from ..io import atomic_write

Record = dict[str, Any]
COLUMNS = ("file", "labels", "probabilities", "error")
FORMATS = {".parquet": "parquet", ".csv": "csv", ".jsonl": "jsonl"}
SEPARATOR = ";"  # between labels in CSV
ROW_GROUP = 8192  # rows written at once


def find_format(
    path: str | None, name: str | None, classes: list[str], with_all: bool = False, with_boxes: bool = False
) -> str:
    """Return the format of an output by its name or suffix; without a path, which is the terminal, JSON lines.

    Raises:
        ValueError: the suffix is unknown, Parquet has no path, or CSV cannot hold the names of the classes.
    """
    suffix = os.path.splitext(path or "out.jsonl")[1].lower()
    found = name or FORMATS.get(suffix)
    if found is None:
        raise ValueError(f"{path}: unknown suffix '{suffix}': use {', '.join(FORMATS)}, or set --format")
    if found == "parquet" and path is None:
        raise ValueError("Parquet is not text: name a file with --out")
    if found == "csv":
        for label in classes:
            if SEPARATOR in label or (with_all and label in _columns(with_boxes)):
                reason = f"contains '{SEPARATOR}'" if SEPARATOR in label else "is the name of a column"
                raise ValueError(f"class '{label}' {reason}, which CSV cannot hold: write .parquet or .jsonl")
    return found


def write_results(
    path: str,
    form: str,
    records: Iterable[Record],
    classes: list[str],
    with_all: bool = False,
    with_boxes: bool = False,
) -> None:
    """Write a file at once: other processes see no file or the complete one."""
    with atomic_write(path) as tmp_path:
        if form == "parquet":
            _write_parquet(os.fspath(tmp_path), iter(records), parquet_schema(classes, with_all, with_boxes))
            return
        with open(tmp_path, "w", encoding="utf-8", newline="") as file:
            write = text_writer(file, form, classes, with_all, with_boxes)
            for record in records:
                write(record)


def text_writer(
    file: TextIO, form: str, classes: list[str], with_all: bool = False, with_boxes: bool = False
) -> Callable[[Record], object]:
    """Return a function that writes a record as a line of CSV or JSON; a header is written now.

    CSV has the boxes as JSON text.
    """
    if form == "jsonl":
        return lambda record: file.write(json.dumps(_json_record(record, classes)) + "\n")
    write_row = csv.writer(file, lineterminator="\n").writerow
    write_row([*_columns(with_boxes), *(classes if with_all else [])])
    return lambda record: write_row(_csv_row(record, classes, with_all, with_boxes))


def _columns(with_boxes: bool) -> tuple[str, ...]:
    return (*COLUMNS, "boxes") if with_boxes else COLUMNS


def _json_record(record: Record, classes: list[str]) -> Record:
    if record.get("all") is None:
        return record
    return {**record, "all": dict(zip(classes, record["all"]))}


def _csv_row(record: Record, classes: list[str], with_all: bool, with_boxes: bool) -> list:
    joined = [SEPARATOR.join(map(str, record[key])) for key in ("labels", "probabilities")]
    every = (record["all"] or [None] * len(classes)) if with_all else []
    boxes = [json.dumps(record["boxes"])] if with_boxes else []
    return [record["file"], *joined, record["error"], *boxes, *every]


def parquet_schema(classes: list[str], with_all: bool = False, with_boxes: bool = False):
    """Return the ``pyarrow.Schema`` of results; its metadata has the ``classes`` in order, as JSON."""
    import pyarrow as pa

    fields = {"file": pa.string(), "labels": pa.list_(pa.string()), "probabilities": pa.list_(pa.float32())}
    fields["error"] = pa.string()
    if with_all:
        fields["all"] = pa.list_(pa.float32())
    if with_boxes:
        numbers = [(name, pa.float32()) for name in ("x0", "y0", "x1", "y1", "score")]
        fields["boxes"] = pa.list_(pa.struct([("label", pa.string()), *numbers]))
    return pa.schema(fields, metadata={"classes": json.dumps(classes)})


def _write_parquet(path: str, records: Iterator[Record], schema) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetWriter(path, schema) as writer:
        while rows := list(islice(records, ROW_GROUP)):
            writer.write_table(pa.Table.from_pylist(rows, schema))
