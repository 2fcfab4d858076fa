"""Batches of a loader, each read while the previous one is in use."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any


class Prefetcher:
    """Iterate over ``loader`` in its order while a thread reads the next batch.

    An error of the loader is raised, with its traceback, where its batch is requested. Only the thread runs the
    loader's code, so the loader draws the same random numbers as without it.
    """

    def __init__(self, loader: Iterable):
        self.loader = loader
        self._batches = iter(loader)
        self._reader = ThreadPoolExecutor(1, "prefetcher")  # Python joins its thread at exit
        self._next = self._read()

    def _read(self) -> Future:
        return self._reader.submit(next, self._batches)

    def __iter__(self) -> Prefetcher:
        return self

    def __next__(self) -> Any:
        batch = self._next.result()
        self._next = self._read()
        return batch

    def pause(self) -> None:
        """Wait until nothing is being read; the batch is kept."""
        wait([self._next])
