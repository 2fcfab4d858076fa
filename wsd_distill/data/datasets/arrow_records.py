"""Dataset dicts that are made from an Arrow table when they are read."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any, cast, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..types import DatasetDict
from .image_paths import image_path
from .list_table import read_info, read_table

_CHUNK = 65_536  # rows in memory at once
_SPARSE = 16  # rows of a chunk that are read one by one if they are spread over more than as many times its length


class ArrowRecords(Sequence[DatasetDict]):
    """N images of a list, as a sequence of dataset dicts that takes no memory for its rows.

    The table is a file that processes share, or the content of a small one. Pickled, only its path is passed on.

    Args:
        source: as in :func:`.open_list`.
        key: ``ListInfo.key`` of ``source``.
        class_of: (L,) class index of each label of the list; -1 for labels that the chosen rows do not have.
        image_root: folder of the images; their names have been checked.
        rows: the chosen rows of the table, N; None: all.

    Attributes:
        rows: the chosen rows; a range, or an array of uint32.

    Raises:
        ValueError: the file was written again, from another state of the list.
    """

    def __init__(
        self,
        source: str | pa.Buffer,
        key: list[Any],
        class_of: np.ndarray,
        image_root: str,
        rows: range | np.ndarray | None = None,
    ):
        self._source, self._key, self._class_of, self._root = source, key, class_of, os.fspath(image_root)
        if isinstance(source, str) and read_info(source).key != key:
            raise ValueError(f"{source}: the list of images has changed since this process was started: start it again")
        self._table = read_table(source)
        self._columns = [self._table[name] for name in ("file", "labels", "unknown")]
        self.rows = range(self._table.num_rows) if rows is None else rows

    def __reduce__(self) -> tuple:
        return ArrowRecords, (self._source, self._key, self._class_of, self._root, self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> DatasetDict: ...

    @overload
    def __getitem__(self, index: slice) -> ArrowRecords: ...

    def __getitem__(self, index):
        if isinstance(index, slice):
            return self.take(self.rows[index], of_table=True)
        row = int(self.rows[index])
        return self._record(*(column[row].as_py() for column in self._columns))

    def __iter__(self) -> Iterator[DatasetDict]:
        for table in self.tables():
            yield from map(self._record, *(table[name].to_pylist() for name in ("file", "labels", "unknown")))

    def take(self, rows: range | np.ndarray, *, of_table: bool = False) -> ArrowRecords:
        """Return the images of some indices, or of rows ``of_table``."""
        chosen = ArrowRecords.__new__(ArrowRecords)  # with the same open table
        chosen.__dict__.update(self.__dict__)
        chosen.rows = rows if of_table else np.asarray(self.rows, np.uint32)[rows]
        return chosen

    def select(self, column: str, value: Any) -> ArrowRecords:
        """Return the images with a value in a column of the table."""
        found, start = [np.zeros(0, np.uint32)], 0
        for table in self.tables():
            chosen = np.flatnonzero(pc.equal(table[column], value).to_numpy())
            found.append((chosen + start).astype(np.uint32))
            start += table.num_rows
        return self.take(np.concatenate(found))

    def tables(self) -> Iterator[pa.Table]:
        """Yield all rows in order, as tables of at most 65,536 rows with the columns of :mod:`.list_table`."""
        for start in range(0, len(self), _CHUNK):
            rows = self.rows[start : start + _CHUNK]
            if isinstance(rows, range) and rows.step == 1:
                yield self._table.slice(rows.start, len(rows))
                continue
            rows = np.asarray(rows, np.int64)
            first, span = int(rows.min()), int(np.ptp(rows)) + 1
            if span <= _SPARSE * _CHUNK:
                yield self._table.slice(first, span).combine_chunks().take(pa.array(rows - first))
            else:
                yield pa.concat_tables([self._table.slice(row, 1) for row in rows.tolist()])

    def image_ids(self) -> Iterator[str]:
        """Yield the image ids."""
        for table in self.tables():
            yield from table["file"].to_pylist()

    def label_matrices(self, num_classes: int) -> Iterator[np.ndarray]:
        """Yield the labels, (n, K) int8 of at most 65,536 images: 1 = positive, 0 = negative, -1 = ignored."""
        for table in self.tables():
            labels = np.zeros((table.num_rows, num_classes), np.int8)
            for name, value in (("unknown", -1), ("labels", 1)):
                lists = table[name].combine_chunks()
                rows, codes = pc.list_parent_indices(lists).to_numpy(), pc.list_flatten(lists).to_numpy()
                labels[rows, self._class_of[codes]] = value
            yield labels

    def sorted_rows(self) -> np.ndarray:
        """Return the indices of the images in the order of their ids, as Python sorts text."""
        chunks = [chunk for table in self.tables() for chunk in table["file"].chunks]  # mapped ones are not copied
        ids = pa.chunked_array(chunks, pa.string())
        return pc.sort_indices(ids).to_numpy()

    def _record(self, name: str, labels: list[int], unknown: list[int]) -> DatasetDict:
        path = image_path(self._root, name, name, allow_remote=True, allow_outside=True)
        record = {"file_name": path, "image_id": name, "labels": sorted(self._class_of[labels].tolist())}
        if unknown:
            record["ignore_labels"] = sorted(self._class_of[unknown].tolist())
        return cast(DatasetDict, record)


def select_records(records: Sequence[DatasetDict], indices: Sequence[int] | np.ndarray) -> Sequence[DatasetDict]:
    """Return the images of some indices, as a list or ArrowRecords, as ``records`` are."""
    if isinstance(records, ArrowRecords):
        return records.take(np.asarray(indices, np.int64))
    return [records[i] for i in indices]


def list_ids(records: Sequence[DatasetDict]) -> Iterator[int | str]:
    """Yield the image ids of dataset dicts."""
    if isinstance(records, ArrowRecords):
        return records.image_ids()
    return (record["image_id"] for record in records)
