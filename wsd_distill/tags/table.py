"""Tags of photos as an Arrow table."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class TagTable:
    """Photos with their tags.

    Attributes:
        table: columns ``file`` (string, relative to the folder of the photos), ``positive`` and ``unknown`` (lists of
            int32: sorted indices in ``classes``), and ``split`` (string: train, val or test; null before the split).
        classes: K class names, in the order of their indices.
        notes: sentences about what was detected, to be printed.
    """

    table: pa.Table
    classes: list[str]
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return self.table.num_rows

    @property
    def files(self) -> list[str]:
        """File names as listed, N."""
        return self.table["file"].to_pylist()

    @property
    def has_split(self) -> bool:
        """Whether photos have a split."""
        return len(self) > 0 and self.table["split"].null_count == 0

    def pairs(self, column: str) -> tuple[np.ndarray, np.ndarray]:
        """Return rows and class indices, (M,) each, of the labels in ``positive`` or ``unknown``."""
        lists = self.table[column].combine_chunks()
        return pc.list_parent_indices(lists).to_numpy(), pc.list_flatten(lists).to_numpy()

    def label_matrix(self) -> np.ndarray:
        """Return (N, K) int8 labels: 1 = positive, 0 = negative, -1 = unknown."""
        labels = np.zeros((len(self), len(self.classes)), dtype=np.int8)
        for column, value in (("unknown", -1), ("positive", 1)):
            labels[self.pairs(column)] = value
        return labels
