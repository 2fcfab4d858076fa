"""Part files of a long prediction, so that one that was stopped goes on where it was."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..io import atomic_write, file_lock
from .writers import Record


class Parts:
    """JSON lines files with a fixed number of records each, in a folder beside the output.

    Attributes:
        folder: ``<output>.parts``; ``run.json`` in it has the settings that decide the results.
    """

    def __init__(self, output: str):
        self.folder = Path(f"{output}.parts")

    @contextmanager
    def open(self, settings: dict, *, overwrite: bool = False) -> Iterator[None]:
        """Hold the folder alone; it is created, or emptied where ``overwrite`` is set.

        Raises:
            ValueError: it has parts of other settings; names them.
            RuntimeError: another process is using it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with file_lock(self.folder / "lock"):
            if overwrite:
                for path in self.folder.glob("*.json*"):
                    path.unlink()
            self._check_settings(settings)
            yield

    def read(self, number: int) -> list[Record] | None:
        """Return the records of a part, None if it is not written yet."""
        try:
            with open(self._path(number), encoding="utf-8") as file:
                return [json.loads(line) for line in file]
        except FileNotFoundError:
            return None

    def write(self, number: int, records: Iterable[Record]) -> list[Record]:
        """Write a part once all of its records are there; return the records."""
        written = list(records)
        with atomic_write(self._path(number)) as tmp_path:
            tmp_path.write_text("".join(json.dumps(record) + "\n" for record in written), encoding="utf-8")
        return written

    def records(self, count: int) -> Iterator[Record]:
        """Yield the records of the first ``count`` parts, one part in memory at a time."""
        for number in range(count):
            yield from self.read(number) or []

    def check_end(self, count: int) -> None:
        """Raise ValueError if there are more than ``count`` parts: photos have been removed."""
        if self._path(count).exists():
            raise ValueError(f"{self.folder} has results of photos that the sources no longer have: {self.remedy}")

    def remove(self) -> None:
        shutil.rmtree(self.folder)

    @property
    def remedy(self) -> str:
        return "delete the folder or use --overwrite"

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.jsonl"

    def _check_settings(self, settings: dict) -> None:
        path = self.folder / "run.json"
        if not path.exists():
            with atomic_write(path) as tmp_path:
                tmp_path.write_text(json.dumps(settings, indent=1))
            return
        found = json.loads(path.read_text())
        other = sorted(key for key in {*found, *settings} if found.get(key) != settings.get(key))
        if other:
            text = f"{os.fspath(self.folder)} has results of a run with another {', '.join(other)}"
            raise ValueError(f"{text}: {self.remedy}")
