"""Labels of the rows of a table: lists of names in a column, or a column for each class."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .faults import RAISE, RowFaults
from .label_names import SEPARATORS
from .label_rows import LabelRows
from .tabular import FILE_COLUMNS, Rows

_DETECTED = (";", ",", "|")
_CELLS = {"1": 1, "1.0": 1, "true": 1, "0": 0, "0.0": 0, "false": 0, "-1": -1, "-1.0": -1, "": -1}  # in lower case
_QUOTED = r"""^\s*('[^']*'|"[^"]*")\s*$"""


def read_labels(source: Rows, path: str, separator: str | None, faults: RowFaults = RAISE) -> LabelRows:
    """Read files, labels and splits of the rows of a file; files are blank where they are missing.

    Raises:
        ValueError: a column is missing, a value is invalid, or the separator is not clear; names the line.
    """
    name, file, split = read_files(source, path, faults)
    columns = source.table.column_names
    if "labels" in columns:
        rows = _read_lists(source, path, separator, faults)
    else:
        if separator is not None:
            raise ValueError(f"{path} has no column 'labels', which a separator is for: add it, or give no separator")
        classes = [other for other in columns if other not in (name, "split")]
        rows = _read_one_hot(source, path, classes, faults)
    rows.file, rows.split, rows.notes = file, split, source.notes + rows.notes
    return rows


def read_files(source: Rows, path: str, faults: RowFaults = RAISE) -> tuple[str, pa.Array, pa.Array | None]:
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
    text, remedy = "Rows without a file name", "write one, or remove the row"
    faults.add(text, remedy, true_rows(empty), lambda row: f"{source.where(row)}: no file name")
    file = file.fill_null("")
    if "split" not in columns:
        return found[0], file, None
    split = pc.utf8_trim_whitespace(_strings(source.table["split"], path, "split"))
    return found[0], file, pc.if_else(pc.equal(split, ""), pa.scalar(None, pa.string()), split)


def first_true(mask: pa.Array) -> int | None:
    """Return the index of the first true value, or None."""
    index = pc.index(mask, pa.scalar(True)).as_py()
    return None if index < 0 else index


def true_rows(mask: pa.Array) -> np.ndarray:
    """Return the indices of the true values of a mask without nulls."""
    return np.flatnonzero(mask.to_numpy(zero_copy_only=False))


def _strings(column: pa.ChunkedArray, path: str, name: str) -> pa.Array:
    values = column.combine_chunks()
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if pa.types.is_large_string(values.type) or pa.types.is_null(values.type):
        values = values.cast(pa.string())
    if not pa.types.is_string(values.type):
        raise ValueError(f"{path}: the column {name!r} has the type {values.type}: write it as text")
    return values


def _read_lists(source: Rows, path: str, separator: str | None, faults: RowFaults) -> LabelRows:
    columns = {name: source.table[name] for name in ("labels", "unknown") if name in source.table.column_names}
    texts = {name: _strings(column, path, name) for name, column in columns.items() if not _is_list(column.type)}
    lists, notes = _split_texts(texts, source, path, separator, faults)
    for name in columns.keys() - texts.keys():
        lists[name] = _string_lists(columns[name], path, name)
    parts = zip(*(_flatten(lists[name], name) for name in columns))
    rows, labels, unknown = (pa.concat_arrays(part) for part in parts)
    encoded = labels.dictionary_encode()
    rows, unknown = rows.to_numpy(), unknown.to_numpy(zero_copy_only=False)
    codes = encoded.indices.to_numpy().astype(np.int32)
    names = encoded.dictionary.to_pylist()
    _check_conflicts(rows, codes, unknown, names, source, faults)
    return LabelRows(source.table[0], names, rows, codes, unknown, source.where, notes=notes)


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _string_lists(column: pa.ChunkedArray, path: str, name: str) -> pa.ListArray:
    kind = column.type.value_type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)):
        raise ValueError(f"{path}: the column {name!r} has lists of {kind}: write the names of the classes")
    return column.combine_chunks().cast(pa.list_(pa.string()))


def _split_texts(
    texts: dict[str, pa.Array], source: Rows, path: str, separator: str | None, faults: RowFaults
) -> tuple[dict[str, pa.ListArray], list[str]]:
    """Split labels at the separator, given or detected; return lists by column, and notes."""
    if not texts:
        return {}, []
    if all(_written_as_list(values) for values in texts.values()):
        note = f"{path}: labels are written as lists, ['a', 'b']."
        return {name: _parse_lists(values, source, faults) for name, values in texts.items()}, [note]
    if separator is None:
        mark, notes = _detect_separator(texts, source, path)
    else:
        mark, notes = parse_separator(separator), []
    return {name: pc.split_pattern(values, mark) for name, values in texts.items()}, notes


def parse_separator(separator: str) -> str:
    """Return the character that a separator of labels stands for; ValueError if it is none."""
    mark = SEPARATORS.get(separator, separator)
    if len(mark) != 1 or mark.isalnum():
        names = ", ".join(SEPARATORS)
        raise ValueError(f"the separator of labels is {separator!r}: give one character, or one of {names}")
    return mark


def _detect_separator(texts: dict[str, pa.Array], source: Rows, path: str) -> tuple[str, list[str]]:
    first = {}
    for mark in _DETECTED:
        rows = [first_true(pc.match_substring(values, mark).fill_null(False)) for values in texts.values()]
        if any(row is not None for row in rows):
            first[mark] = min(row for row in rows if row is not None)
    if len(first) > 1:
        found = " and ".join(f"{mark!r} ({source.where(row)})" for mark, row in first.items())
        raise ValueError(f"{path}: labels contain {found}: correct these lines, or give --separator")
    if first:
        mark = next(iter(first))
        return mark, [f"{path}: labels are separated by {mark!r} (detected)."]
    return ";", [f"{path}: no photo has several labels separated by {', '.join(map(repr, _DETECTED))}."]


def _written_as_list(values: pa.Array) -> bool:
    """Whether there are values, and all are of the form ``[...]``."""
    filled = pc.not_equal(pc.utf8_trim_whitespace(values), "").fill_null(False)
    brackets = pc.match_substring_regex(values, r"^\s*\[.*\]\s*$").fill_null(False)
    return bool(pc.any(filled).as_py()) and pc.all(pc.or_(brackets, pc.invert(filled))).as_py()


def _parse_lists(values: pa.Array, source: Rows, faults: RowFaults) -> pa.ListArray:
    """Parse Python's or JSON's lists of quoted labels without a comma in a label."""
    inner = pc.utf8_trim(values, " \t\r\n[]")
    lists = pc.split_pattern(inner, ",")
    parts = pc.list_flatten(lists)
    good = pc.or_(pc.match_substring_regex(parts, _QUOTED), pc.equal(pc.utf8_trim_whitespace(parts), ""))
    wrong = true_rows(pc.invert(good))
    rows, first = np.unique(pc.list_parent_indices(lists).to_numpy()[wrong], return_index=True)

    def describe(row: int) -> str:
        label = parts[int(wrong[first[np.searchsorted(rows, row)]])].as_py().strip()
        return f"{source.where(row)}: {label!r} in a list is not one label in quotes"

    faults.add("Rows with labels that are not in quotes", "write the labels of a photo as a;b", rows, describe)
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


def _check_conflicts(
    rows: np.ndarray, codes: np.ndarray, unknown: np.ndarray, names: list[str], source: Rows, faults: RowFaults
) -> None:
    """Add faults of photos with a label that is both known and unknown."""
    if not unknown.any():
        return
    pairs = rows.astype(np.int64) * len(names) + codes
    both = np.unique(pairs[unknown][np.isin(pairs[unknown], pairs[~unknown])])
    first = {row: names[code] for row, code in zip(*(x.tolist()[::-1] for x in np.divmod(both, len(names))))}
    text, what = "Rows with a label that is also unknown", "is both a label and unknown"
    faults.add(text, "write it once", sorted(first), lambda row: f"{source.where(row)}: {first[row]!r} {what}")


def _read_one_hot(source: Rows, path: str, classes: list[str], faults: RowFaults) -> LabelRows:
    if not classes:
        raise ValueError(f"{path} has no column 'labels', and no columns that are classes: add one of them")
    keys, values = pa.array(list(_CELLS)), np.array(list(_CELLS.values()), np.int8)
    found, wrong = [], []  # wrong: rows, column and its cells
    for code, name in enumerate(classes):
        cells = _cells(source.table[name])
        index = pc.index_in(cells, keys)
        if index.null_count:
            wrong.append((true_rows(pc.is_null(index)), name, cells))
        labels = values[index.fill_null(0).to_numpy()]
        rows = np.flatnonzero(labels)
        found.append((rows, np.full(len(rows), code, np.int32), labels[rows] == -1))

    def describe(row: int) -> str:
        name, cells = next((name, cells) for rows, name, cells in wrong if row in rows)
        return f"{source.where(row)}: the column {name!r} has {cells[row].as_py()!r}"

    remedy = "write 1, 0, or -1 or nothing for unknown; a column that lists labels is named 'labels'"
    rows = np.unique(np.concatenate([np.zeros(0, int), *(rows for rows, _, _ in wrong)]))
    faults.add("Rows with another value than 1, 0 or -1 for a class", remedy, rows, describe)
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
