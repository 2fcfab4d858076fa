"""A command with its dependencies and results."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(eq=False)
class Run:
    """A command with its dependencies and results."""

    name: str  # unique, shown to the user
    command: list[str]
    folder: Path  # of the log, and of all other files unless ``results`` are elsewhere
    results: list[Path]  # files that all exist once the command is complete, and not before
    dependencies: list[Run] = field(default_factory=list)
    check: bool = False  # start the command even if its results exist, because it verifies them

    @property
    def done(self) -> bool:
        return all(path.exists() for path in self.results)

    @property
    def log(self) -> Path:
        return self.folder / "stdout.txt"

    @property
    def weights(self) -> Path:
        """The final checkpoint of a training."""
        return self.folder / "model_final.pth"


def find_missing(targets: Iterable[Run]) -> list[Run]:
    """List the runs still to start for ``targets``, each once and after its dependencies."""
    found: dict[Run, None] = {}

    def visit(run: Run) -> None:
        if (run.check or not run.done) and run not in found:
            for dependency in run.dependencies:
                visit(dependency)
            found[run] = None

    for target in targets:
        visit(target)
    return list(found)
