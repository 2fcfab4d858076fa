"""Labels of the rows of a table: lists of names in a column, or a column for each class."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .label_names import SEPARATORS
from .tabular import FILE_COLUMNS, Rows

_DETECTED = (";", ",", "|")
_CELLS = {"1": 1, "1.0": 1, "true": 1, "0": 0, "0.0": 0, "false": 0, "-1": -1, "-1.0": -1, "": -1}  # in lower case
_QUOTED = r"""^\s*('[^']*'|"[^"]*")\s*$"""


@dataclass
class LabelRows:
    """Photos and labels of one file, before its labels become class indices.

    Attributes:
        file: (N,) strings.
        names: the different labels.
        rows, codes, unknown: (M,) each: row and index in ``names`` of each label, and whether it is unknown.
        where: row -> file and line, for errors.
        split: (N,) strings, null where blank; None: there is no such column.
        is_ordered: ``names`` are the classes in order, as a file of this format has them.
    """

    file: pa.Array
    names: list[str]
    rows: np.ndarray
    codes: np.ndarray
    unknown: np.ndarray
    where: Callable[[int], str]
    split: pa.Array | None = None
    is_ordered: bool = False
    notes: list[str] = field(default_factory=list)

    def locations(self) -> Mapping[str, str]:
        """Return label -> where it is first used."""
        codes, first = np.unique(self.codes, return_index=True)
        return Locations({self.names[c]: int(self.rows[i]) for c, i in zip(codes.tolist(), first)}, self.where)


class Locations(Mapping):
    """label -> location of its row, looked up when an error needs it."""

    def __init__(self, rows: dict[str, int], where: Callable[[int], str]):
        self._rows, self._where = rows, where

    def __getitem__(self, label: str) -> str:
        return self._where(self._rows[label])

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


def read_labels(source: Rows, path: str, separator: str | None) -> LabelRows:
    """Read files, labels and splits of the rows of a file.

    Raises:
        ValueError: a column is missing, a value is invalid, or the separator is not clear; names the line.
    """
    name, file, split = read_files(source, path)
    columns = source.table.column_names
    if "labels" in columns:
        rows = _read_lists(source, path, separator)
    else:
        if separator is not None:
            raise ValueError(f"{path} has no column 'labels', which a separator is for: add it, or give no separator")
        rows = _read_one_hot(source, path, [other for other in columns if other not in (name, "split")])
    rows.file, rows.split, rows.notes = file, split, source.notes + rows.notes
    return rows


def read_files(source: Rows, path: str) -> tuple[str, pa.Array, pa.Array | None]:
    """Return the name of the column with the files, the files (N,), and the column ``split`` (N,) if there is one.

    Raises:
        ValueError: a file name is missing; names the line.
    """
    columns = source.table.column_names
    found = [name for name in FILE_COLUMNS if name in columns]
    if len(found) != 1:
        problem = "both columns 'file' and 'file_name'" if found else "no column 'file' or 'file_name'"
        raise ValueError(f"{path} has {problem} (its columns: {', '.join(columns[:20])}): name the column 'file'")
    file = pc.utf8_trim_whitespace(_strings(source.table[found[0]], path, found[0]))
    empty = pc.or_kleene(pc.is_null(file), pc.equal(file, "")).fill_null(True)
    if (row := first_true(empty)) is not None:
        raise ValueError(f"{source.where(row)}: no file name: write one, or remove the row")
    if "split" not in columns:
        return found[0], file, None
    split = pc.utf8_trim_whitespace(_strings(source.table["split"], path, "split"))
    return found[0], file, pc.if_else(pc.equal(split, ""), pa.scalar(None, pa.string()), split)


def first_true(mask: pa.Array) -> int | None:
    """Return the index of the first true value, or None."""
    index = pc.index(mask, pa.scalar(True)).as_py()
    return None if index < 0 else index


def _strings(column: pa.ChunkedArray, path: str, name: str) -> pa.Array:
    values = column.combine_chunks()
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if pa.types.is_large_string(values.type) or pa.types.is_null(values.type):
        values = values.cast(pa.string())
    if not pa.types.is_string(values.type):
        raise ValueError(f"{path}: the column {name!r} has the type {values.type}: write it as text")
    return values


def _read_lists(source: Rows, path: str, separator: str | None) -> LabelRows:
    columns = {name: source.table[name] for name in ("labels", "unknown") if name in source.table.column_names}
    texts = {name: _strings(column, path, name) for name, column in columns.items() if not _is_list(column.type)}
    lists, notes = _split_texts(texts, source, path, separator)
    for name in columns.keys() - texts.keys():
        lists[name] = _string_lists(columns[name], path, name)
    parts = zip(*(_flatten(lists[name], name) for name in columns))
    rows, labels, unknown = (pa.concat_arrays(part) for part in parts)
    encoded = labels.dictionary_encode()
    rows, unknown = rows.to_numpy(), unknown.to_numpy(zero_copy_only=False)
    codes = encoded.indices.to_numpy().astype(np.int32)
    names = encoded.dictionary.to_pylist()
    _check_conflicts(rows, codes, unknown, names, source)
    return LabelRows(source.table[0], names, rows, codes, unknown, source.where, notes=notes)


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _string_lists(column: pa.ChunkedArray, path: str, name: str) -> pa.ListArray:
    kind = column.type.value_type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)):
        raise ValueError(f"{path}: the column {name!r} has lists of {kind}: write the names of the classes")
    return column.combine_chunks().cast(pa.list_(pa.string()))


def _split_texts(
    texts: dict[str, pa.Array], source: Rows, path: str, separator: str | None
) -> tuple[dict[str, pa.ListArray], list[str]]:
    """Split labels at the separator, given or detected; return lists by column, and notes."""
    if not texts:
        return {}, []
    if all(_written_as_list(values) for values in texts.values()):
        note = f"{path}: labels are written as lists, ['a', 'b']."
        return {name: _parse_lists(values, source) for name, values in texts.items()}, [note]
    if separator is None:
        mark, notes = _detect_separator(texts, source, path)
    else:
        mark, notes = SEPARATORS.get(separator, separator), []
        if len(mark) != 1 or mark.isalnum():
            names = ", ".join(SEPARATORS)
            raise ValueError(f"the separator of labels is {separator!r}: give one character, or one of {names}")
    return {name: pc.split_pattern(values, mark) for name, values in texts.items()}, notes


def _detect_separator(texts: dict[str, pa.Array], source: Rows, path: str) -> tuple[str, list[str]]:
    first = {}
    for mark in _DETECTED:
        rows = [first_true(pc.match_substring(values, mark).fill_null(False)) for values in texts.values()]
        if any(row is not None for row in rows):
            first[mark] = min(row for row in rows if row is not None)
    if len(first) > 1:
        found = " and ".join(f"{mark!r} ({source.where(row)})" for mark, row in first.items())
        raise ValueError(f"{path}: labels contain {found}: choose what separates labels with --separator")
    if first:
        mark = next(iter(first))
        return mark, [f"{path}: labels are separated by {mark!r} (detected)."]
    return ";", [f"{path}: no photo has several labels separated by {', '.join(map(repr, _DETECTED))}."]


def _written_as_list(values: pa.Array) -> bool:
    """Whether there are values, and all are of the form ``[...]``."""
    filled = pc.not_equal(pc.utf8_trim_whitespace(values), "").fill_null(False)
    brackets = pc.match_substring_regex(values, r"^\s*\[.*\]\s*$").fill_null(False)
    return bool(pc.any(filled).as_py()) and pc.all(pc.or_(brackets, pc.invert(filled))).as_py()


def _parse_lists(values: pa.Array, source: Rows) -> pa.ListArray:
    """Parse Python's or JSON's lists of quoted labels without a comma in a label."""
    inner = pc.utf8_trim(values, " \t\r\n[]")
    lists = pc.split_pattern(inner, ",")
    parts = pc.list_flatten(lists)
    good = pc.or_(pc.match_substring_regex(parts, _QUOTED), pc.equal(pc.utf8_trim_whitespace(parts), ""))
    if (index := first_true(pc.invert(good))) is not None:
        row = pc.list_parent_indices(lists)[index].as_py()
        text = f"{source.where(row)}: {parts[index].as_py().strip()!r} in a list is not one label in quotes"
        raise ValueError(f"{text}: write the labels of a photo as a;b")
    names = pc.utf8_slice_codeunits(pc.utf8_trim_whitespace(parts), 1, -1)
    return pa.ListArray.from_arrays(lists.offsets, names)


def _flatten(lists: pa.ListArray, column: str) -> tuple[pa.Array, pa.Array, pa.Array]:
    """Return rows, names and whether unknown, (M,) each, of the labels that are not blank."""
    rows = pc.list_parent_indices(lists)
    names = pc.utf8_trim_whitespace(pc.list_flatten(lists).fill_null(""))
    marked = pc.starts_with(names, "?")
    names = pc.if_else(marked, pc.utf8_trim_whitespace(pc.utf8_slice_codeunits(names, 1)), names)
    kept = pc.not_equal(names, "")
    unknown = pa.array(np.ones(len(names), bool)) if column == "unknown" else marked
    return rows.filter(kept), names.filter(kept), unknown.filter(kept)


def _check_conflicts(rows: np.ndarray, codes: np.ndarray, unknown: np.ndarray, names: list[str], source: Rows) -> None:
    """Raise ValueError if a label of a photo is both known and unknown."""
    if not unknown.any():
        return
    pairs = rows.astype(np.int64) * len(names) + codes
    both = pairs[unknown][np.isin(pairs[unknown], pairs[~unknown])]
    if len(both):
        row, code = divmod(int(both.min()), len(names))
        raise ValueError(f"{source.where(row)}: {names[code]!r} is both a label and unknown: write it once")


def _read_one_hot(source: Rows, path: str, classes: list[str]) -> LabelRows:
    if not classes:
        raise ValueError(f"{path} has no column 'labels', and no columns that are classes: add one of them")
    keys, values = pa.array(list(_CELLS)), np.array(list(_CELLS.values()), np.int8)
    found = []
    for code, name in enumerate(classes):
        cells = _cells(source.table[name])
        index = pc.index_in(cells, keys)
        if (row := first_true(pc.is_null(index))) is not None:
            text = f"{source.where(row)}: the column {name!r} has {cells[row].as_py()!r}"
            remedy = "write 1, 0, or -1 or nothing for unknown; a column that lists labels is named 'labels'"
            raise ValueError(f"{text}: {remedy}")
        labels = values[index.to_numpy()]
        rows = np.flatnonzero(labels)
        found.append((rows, np.full(len(rows), code, np.int32), labels[rows] == -1))
    rows, codes, unknown = (np.concatenate(part) for part in zip(*found))
    note = f"{path}: {len(classes)} columns are classes: 1 = present, 0 = absent, -1 or blank = unknown."
    return LabelRows(source.table[0], classes, rows, codes, unknown, source.where, is_ordered=True, notes=[note])


def _cells(column: pa.ChunkedArray) -> pa.Array:
    """Return the cells of a class as text in lower case, blank where missing."""
    values = column.combine_chunks()
    if pa.types.is_floating(values.type):
        values = pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)
    try:
        texts = values.cast(pa.string()).fill_null("")
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        texts = pa.array([f"a value of the type {values.type}"] * len(values))
    return pc.utf8_lower(pc.utf8_trim_whitespace(texts))


def build_lists(rows: np.ndarray, indices: np.ndarray, num_rows: int) -> pa.ListArray:
    """Return ``num_rows`` sorted lists of int32 without duplicates from rows (M,) and class indices (M,)."""
    width = int(indices.max()) + 1 if len(indices) else 1
    pairs = np.sort(rows.astype(np.int64) * width + indices)  # np.unique hashes, which takes ten times as long
    pairs = pairs[np.diff(pairs, prepend=-1) > 0]
    offsets = np.concatenate([[0], np.cumsum(np.bincount(pairs // width, minlength=num_rows))])
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array((pairs % width).astype(np.int32)))
