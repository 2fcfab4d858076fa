"""Decisions about single tags, as ``wsd audit`` collects them: keep, remove, add or unknown."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ..data.datasets.readers import class_indices
from ..io import check_file
from .table import TagTable, build_lists

DECISIONS = ("keep", "remove", "add", "unknown")
_COLUMNS = ("file", "label", "decision")


class Decision(NamedTuple):
    """What to do with a label of a photo."""

    line: int  # of the file
    file: str
    label: str
    decision: str  # of ``DECISIONS``


def apply_decisions(tags: TagTable, path: str | os.PathLike) -> tuple[TagTable, str]:
    """Return the tags with the decisions of a CSV, and a sentence that counts them.

    Rows without a decision are skipped. The label of "keep" has to be present or absent as it is: nothing changes.

    Args:
        tags: photos with tags.
        path: CSV with the columns ``file``, ``label`` and ``decision``; others are not read.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a row is invalid, of a photo or class that ``tags`` lacks, removes a label that is absent, adds one
            that is present, or contradicts another row; names file and line.
    """
    rows = {file: row for row, file in enumerate(tags.files)}
    labels = tags.label_matrix()
    known: dict[tuple[int, int], Decision] = {}
    for item in read_decisions(path):
        where = f"{path}, line {item.line}"
        if item.file not in rows:
            raise ValueError(f"{where}: {item.file!r} is not among the photos with tags: remove the row")
        (k,) = class_indices([item.label], tags.classes, where)
        place = rows[item.file], k
        if known.setdefault(place, item).decision != item.decision:
            first = f"{known[place].decision!r} in line {known[place].line}"
            text = f"{item.file!r}, {item.label!r} is {item.decision!r} here and {first}"
            raise ValueError(f"{where}: {text}: leave one of the rows")
        impossible = {"remove": (0, "absent"), "add": (1, "present")}.get(item.decision)
        if impossible and labels[place] == impossible[0]:
            text = f"{item.decision!r}, but {item.label!r} is {impossible[1]} in the tags of {item.file!r} already"
            raise ValueError(f"{where}: {text}: write keep, or remove the row")
    for place, item in known.items():
        if item.decision != "keep":
            labels[place] = {"remove": 0, "add": 1, "unknown": -1}[item.decision]
    counts = [sum(item.decision == name for item in known.values()) for name in DECISIONS]
    text = ", ".join(f"{count} {name}" for name, count in zip(DECISIONS, counts))
    return _with_labels(tags, labels), f"{path}: {sum(counts)} decisions were applied ({text})."


def read_decisions(path: str | os.PathLike) -> Iterator[Decision]:
    """Read the rows of a CSV that have a decision; errors as in :func:`apply_decisions`."""
    check_file(path)
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [name for name in _COLUMNS if name not in (reader.fieldnames or [])]
            if missing:
                raise ValueError(f"{path} has no column {missing[0]!r}: its columns have to be {', '.join(_COLUMNS)}")
            for row in reader:
                found = _read_row(row, f"{path}, line {reader.line_num}")
                if found[2]:
                    yield Decision(reader.line_num, *found)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is not a CSV file in UTF-8 ({error}): save it as one") from error


def _read_row(row: dict[str, str | None], where: str) -> tuple[str, str, str]:
    """Return file, label and decision, which may be empty; otherwise none may be."""
    file, label, decision = ((row[name] or "").strip() for name in _COLUMNS)
    if decision and not (file and label):
        empty = "label" if file else "file"
        raise ValueError(f"{where}: the column {empty!r} is empty: fill it in, or remove the row")
    if decision.lower() not in ("", *DECISIONS):
        raise ValueError(f"{where}: the decision is {decision!r}: write {', '.join(DECISIONS)} or nothing")
    return file, label, decision.lower()


def _with_labels(tags: TagTable, labels: np.ndarray) -> TagTable:
    """Return the tags with other labels (N, K)."""
    table = tags.table
    for name, value in (("positive", 1), ("unknown", -1)):
        rows, codes = np.nonzero(labels == value)
        table = table.set_column(table.column_names.index(name), name, build_lists(rows, codes, len(labels)))
    return replace(tags, table=table)
