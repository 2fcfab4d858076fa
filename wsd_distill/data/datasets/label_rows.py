"""Photos and labels of one file as arrays, before its labels become class indices."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa


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

    def without(self, dropped: np.ndarray) -> LabelRows:
        """Return the rows that are not in ``dropped``."""
        if not len(dropped):
            return self
        kept = np.delete(np.arange(len(self.file)), dropped)
        numbers = np.full(len(self.file), -1)
        numbers[kept] = np.arange(len(kept))
        labels = numbers[self.rows] >= 0
        return replace(
            self,
            file=self.file.take(pa.array(kept)),
            rows=numbers[self.rows[labels]],
            codes=self.codes[labels],
            unknown=self.unknown[labels],
            where=lambda row: self.where(int(kept[row])),
            split=None if self.split is None else self.split.take(pa.array(kept)),
        )

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


def build_lists(rows: np.ndarray, indices: np.ndarray, num_rows: int) -> pa.ListArray:
    """Return ``num_rows`` sorted lists of int32 without duplicates from rows (M,) and class indices (M,)."""
    width = int(indices.max()) + 1 if len(indices) else 1
    pairs = np.sort(rows.astype(np.int64) * width + indices)  # np.unique hashes, which takes ten times as long
    pairs = pairs[np.diff(pairs, prepend=-1) > 0]
    offsets = np.concatenate([[0], np.cumsum(np.bincount(pairs // width, minlength=num_rows))])
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array((pairs % width).astype(np.int32)))
