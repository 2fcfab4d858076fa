"""Problems of photos and tags. Those of single rows raise an error, or are collected for ``wsd check``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

SHOWN = 5  # faults of one kind that are printed


class Finding(NamedTuple):
    """One kind of problem.

    Attributes:
        text: a sentence.
        remedy: what to do about it.
        details: photos or rows that have it, as text.
        groups: rows of photos, to be shown side by side.
        is_warning: a training is possible.
        num_found: photos or rows in all, where ``details`` has the first ones only.
    """

    text: str
    remedy: str
    details: list[str]
    groups: list[list[int]]
    is_warning: bool
    num_found: int = 0

    @property
    def total(self) -> int:
        """Number of photos or rows that have the problem."""
        return self.num_found or len(self.details)

    def __str__(self) -> str:
        rest = f"; and {self.total - SHOWN} more" if self.total > SHOWN else ""
        shown = f" ({'; '.join(self.details[:SHOWN])}{rest})" if self.details else ""
        return f"{self.text}{shown}. {self.remedy}."


class RowFaults:
    """What to do about rows of a file that cannot be read.

    Args:
        collect: list all faults and leave their rows out, instead of raising an error for the first.

    Attributes:
        found: the collected faults; their ``details`` are the first ``SHOWN``.
    """

    def __init__(self, collect: bool = False):
        self.collect = collect
        self.found: list[Finding] = []
        self._rows: list[np.ndarray] = []

    def add(self, text: str, remedy: str, rows: Sequence[int] | np.ndarray, describe: Callable[[int], str]) -> None:
        """Add a fault of ``rows``, if there are any; ``describe`` is called for the first ones.

        Raises:
            ValueError: the faults are not collected.
        """
        if not len(rows):
            return
        if not self.collect:
            raise ValueError(f"{describe(int(rows[0]))}: {remedy}")
        self.add_details(text, remedy, [describe(int(row)) for row in rows[:SHOWN]], len(rows))
        self.drop(rows)

    def add_details(
        self, text: str, remedy: str, details: list[str], count: int = 0, *, is_warning: bool = False
    ) -> None:
        """Add a fault that is described already; rows are left out by :meth:`drop`."""
        remedy = remedy[0].upper() + remedy[1:]
        total = count or len(details)
        self.found.append(Finding(f"{text}: {total}", remedy, details[:SHOWN], [], is_warning, total))

    def drop(self, rows: Sequence[int] | np.ndarray) -> None:
        """Leave rows out at the next :meth:`take_rows`."""
        self._rows.append(np.asarray(rows, np.int64))

    def take_rows(self) -> np.ndarray:
        """Return the rows to leave out that were added since the last call."""
        rows, self._rows = self._rows, []
        return np.unique(np.concatenate([np.zeros(0, np.int64), *rows]))


RAISE = RowFaults()  # raises an error for the first fault
