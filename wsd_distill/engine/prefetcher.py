"""Batches of a loader, each read while the one before is in use."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any


class Prefetcher:
    """Iterator over the batches of ``loader``, in its order, of which a thread always reads the next one.

    An error of the loader comes, with its traceback, to whoever asks for the batch that it was about. Only the thread
    runs the loader's code, so that random numbers that nobody else draws are those of a plain iterator.
    """

    def __init__(self, loader: Iterable):
        self.loader = loader
        self._batches = iter(loader)
        self._reader = ThreadPoolExecutor(1, "prefetcher")  # which Python waits for before it ends
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
        """Returns when nothing is being read; what was read is kept."""
        wait([self._next])
