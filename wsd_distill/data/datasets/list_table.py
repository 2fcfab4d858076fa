"""Lists of images as Arrow tables: a large list is read once, into a file that all processes map into memory.

The file is in the folder ``.wsd_lists`` beside the list, or in ``$WSD_LISTS``. It belongs to the size and the time of
change of the list and to the separator; otherwise it is written again. Its columns are ``file`` (as listed), ``labels``
and ``unknown`` (lists of indices in ``ListInfo.labels``), ``split`` (index in ``ListInfo.splits``) and ``is_unusual``
(names that :func:`.image_path` has to check).
"""

from __future__ import annotations

import hashlib
import json
import os
from array import array
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...io import atomic_write, file_lock
from .label_columns import read_files, read_labels
from .label_rows import LabelRows, build_lists
from .tabular import PART_ROWS, Rows, iter_rows, locate_row

MIN_BYTES = 16_000_000  # of a list that is kept as a file; a smaller one is read anew into memory
_VERSION = 1
_UNUSUAL = r"//|(^|/)\.\.?(/|$)|/$|\x00|://"
_INFO = "info"
_SCHEMA = pa.schema(
    {
        "file": pa.string(),
        "labels": pa.list_(pa.int32()),
        "unknown": pa.list_(pa.int32()),
        "split": pa.int32(),
        "is_unusual": pa.bool_(),
    }
)


@dataclass
class ListInfo:
    """What is known of a whole list.

    Attributes:
        key: what the table was made from.
        labels: the different labels, in the order of their indices.
        is_ordered: ``labels`` are the classes in order, because each has a column.
        splits: the different values of the column ``split``; None for blank.
        first: for each split the first row of each label index that it has.
        repeated: an error for each split with an image twice, and under "" for all splits together.
        num_absolute: absolute file names.
    """

    key: list[Any]
    labels: list[str] = field(default_factory=list)
    is_ordered: bool = False
    splits: list[str | None] = field(default_factory=list)
    first: list[dict[str, int]] = field(default_factory=list)
    repeated: dict[str, str] = field(default_factory=dict)
    num_absolute: int = 0

    def first_rows(self, split: str | None = None) -> dict[str, int]:
        """Return label -> its first row, of one split or of all (None)."""
        rows: dict[str, int] = {}
        for name, first in zip(self.splits, self.first):
            if split is None or name == split:
                for code, row in first.items():
                    label = self.labels[int(code)]
                    rows[label] = min(row, rows.get(label, row))
        return rows


def open_list(file: str, separator: str | None = None) -> tuple[str | pa.Buffer, ListInfo]:
    """Read a list, or find what an earlier process has read.

    Args:
        file: CSV, Parquet, JSON lines or JSON list.
        separator: character between labels in a text; None: ";".

    Returns:
        The path of an Arrow file, for a small list its content, and what is known of the list.

    Raises:
        FileNotFoundError: the list is missing.
        ValueError: the list or a row is invalid; names it.
        OSError: the Arrow file cannot be written; names the folder and the environment variable for another one.
    """
    if not os.path.exists(file) or os.stat(file).st_size < MIN_BYTES:
        sink = pa.BufferOutputStream()
        info = _write_table(file, separator, sink)
        return sink.getvalue(), info
    found = os.stat(file)
    key = [_VERSION, found.st_size, found.st_mtime_ns, separator]
    path = _table_path(file)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with file_lock(path.with_suffix(".lock"), wait=True):
            info = read_info(path) if path.exists() else ListInfo([])
            if info.key != key:
                with atomic_write(path) as part, pa.OSFile(os.fspath(part), "wb") as sink:
                    info = _write_table(file, separator, sink, key)
    except (PermissionError, FileExistsError) as error:
        text = f"{path.parent} cannot be written ({error}), where the list {file} is kept as an Arrow file"
        raise OSError(f"{text}: set the environment variable WSD_LISTS to a folder that all processes share") from error
    return os.fspath(path), info


def read_table(source: str | pa.Buffer) -> pa.Table:
    """Return the table of ``open_list``, whose columns are mapped and not read."""
    return _open_table(source).read_all()


def _open_table(source: str | os.PathLike | pa.Buffer) -> pa.RecordBatchFileReader:
    try:
        return pa.ipc.open_file(source if isinstance(source, pa.Buffer) else pa.memory_map(os.fspath(source)))
    except pa.ArrowInvalid as error:
        raise ValueError(f"{source} is damaged ({error}): delete it, it is written again") from error


def _table_path(file: str) -> Path:
    full = Path(os.path.abspath(file))
    folder = Path(os.environ.get("WSD_LISTS") or full.parent / ".wsd_lists")
    return folder / f"{full.stem}.{hashlib.sha256(os.fsencode(full)).hexdigest()[:12]}.arrow"


def read_info(source: str | os.PathLike | pa.Buffer) -> ListInfo:
    """Return what is known of a list that was written."""
    reader = _open_table(source)
    metadata = reader.get_batch_with_custom_metadata(reader.num_record_batches - 1).custom_metadata
    return ListInfo(**json.loads(metadata[_INFO]))


def _write_table(file: str, separator: str | None, sink: Any, key: list[Any] | None = None) -> ListInfo:
    """Write a list as an Arrow file; an empty last batch has the ``ListInfo`` in its metadata."""
    info, hashes = ListInfo(key or []), array("q")
    codes: dict[str, int] = {}
    splits: dict[str | None, int] = {}
    start = 0
    with pa.ipc.new_file(sink, _SCHEMA) as writer:
        for rows in iter_rows(file):
            found = _read_part(rows, file, separator)
            batch = _encode(found, codes, splits)
            info.is_ordered = found.is_ordered
            _note_first_rows(info, batch, len(codes), len(splits), start)
            info.num_absolute += pc.sum(pc.starts_with(batch["file"], "/")).as_py()
            hashes.frombytes(_hash_names(batch["file"], batch["is_unusual"]).tobytes())
            writer.write_table(pa.Table.from_batches([batch]), max_chunksize=PART_ROWS)
            start += len(batch)
        info.labels, info.splits = list(codes), list(splits)
        info.repeated = _find_repeated(file, hashes)
        empty = pa.RecordBatch.from_pylist([], _SCHEMA)
        writer.write_batch(empty, custom_metadata={_INFO: json.dumps(asdict(info))})
    return info


def _read_part(rows: Rows, file: str, separator: str | None) -> LabelRows:
    has_lists = "labels" in rows.table.column_names
    return read_labels(rows, file, separator or (";" if has_lists else None))


def _encode(found: LabelRows, codes: dict[str, int], splits: dict[str | None, int]) -> pa.RecordBatch:
    """Return a batch of ``_SCHEMA``; new labels and splits are added to ``codes`` and ``splits``."""
    count = len(found.file)
    index = np.array([codes.setdefault(name, len(codes)) for name in found.names] or [0], np.int32)[found.codes]
    lists = [build_lists(found.rows[kept], index[kept], count) for kept in (~found.unknown, found.unknown)]
    column = pa.nulls(count, pa.string()) if found.split is None else found.split
    encoded = column.dictionary_encode("encode")
    names = encoded.dictionary.to_pylist()
    index = np.array([splits.setdefault(name, len(splits)) for name in names], np.int32)[encoded.indices.to_numpy()]
    unusual = pc.match_substring_regex(found.file, _UNUSUAL)
    return pa.RecordBatch.from_arrays([found.file, *lists, pa.array(index), unusual], schema=_SCHEMA)


def _note_first_rows(info: ListInfo, batch: pa.RecordBatch, num_labels: int, num_splits: int, start: int) -> None:
    info.first += [{} for _ in range(num_splits - len(info.first))]
    splits = batch["split"].to_numpy()
    for name in ("labels", "unknown"):
        rows, codes = pc.list_parent_indices(batch[name]).to_numpy(), pc.list_flatten(batch[name]).to_numpy()
        keys = splits[rows].astype(np.int64) * num_labels + codes
        present = np.flatnonzero(np.bincount(keys, minlength=1))
        first = np.zeros(int(keys.max(initial=0)) + 1, np.int64)
        first[keys[::-1]] = rows[::-1]  # of equal keys the last assignment stays
        for key in present.tolist():
            split, code = divmod(key, num_labels)
            known = info.first[split].get(str(code), len(batch) + start)
            info.first[split][str(code)] = min(known, start + int(first[key]))


def _hash_names(file: pa.Array, is_unusual: pa.Array) -> np.ndarray:
    """Return (N,) int64 hashes of the normalized names, the same within this process."""
    names = file.to_pylist()
    for row in np.flatnonzero(is_unusual.to_numpy(zero_copy_only=False)).tolist():
        names[row] = os.path.normpath(names[row])
    return np.fromiter(map(hash, names), np.int64, len(names))


def _find_repeated(file: str, hashes: array) -> dict[str, str]:
    """Return ``ListInfo.repeated``; the list is read again only if two names have the same hash."""
    ordered = np.frombuffer(hashes, np.int64)
    ordered.sort()  # in place
    suspects = ordered[1:][ordered[1:] == ordered[:-1]]
    repeated: dict[str, str] = {}
    first: dict[tuple[str, str], int] = {}
    start = 0
    for rows in iter_rows(file) if len(suspects) else ():
        _, names, splits = read_files(rows, file)
        values = _hash_names(names, pc.match_substring_regex(names, _UNUSUAL))
        for row in np.flatnonzero(np.isin(values, suspects)).tolist():
            name = names[row].as_py()
            for split in {(splits is not None and splits[row].as_py()) or "", ""}:
                earlier = first.setdefault((split, os.path.normpath(name)), start + row)
                if earlier < start + row and split not in repeated:
                    text = f"{rows.where(row)}: {name!r} is already listed ({locate_row(file, earlier)})"
                    repeated[split] = f"{text}: remove one of the rows"
        start += len(names)
    return repeated
