"""Commands with dependencies and results, run in the order of their dependencies, several at once."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

import torch
from tqdm import tqdm

from .processes import ChildProcesses, follow


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

    def describe_failure(self) -> str:
        """Return the last line of the log, without the name of the tool that printed an error."""
        lines = self.log.read_text().split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "it printed nothing")
        return last.split(".py: error: ")[-1]

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


def default_jobs() -> int:
    """One per GPU; without a GPU one per core, at most four, because small models gain little from more threads."""
    return torch.cuda.device_count() or min(4, os.cpu_count() or 1)


def run_missing(targets: Iterable[Run], jobs: int, *, quiet: bool = False) -> tuple[list[Run], list[Run]]:
    """Start every missing run as soon as its dependencies are done, ``jobs`` at once.

    A failed run stops only the runs that depend on it. No child process is left when this function returns or raises,
    which it does as SystemExit on SIGTERM.

    Args:
        targets: what is to be complete.
        jobs: runs at once.
        quiet: do not print the end of the log of a failed run.

    Returns:
        Failed runs, and runs not started because a dependency failed.
    """
    waiting = find_missing(targets)
    unfinished, slots = set(waiting), list(range(jobs))
    failed: list[Run] = []
    running: dict[Future[int], tuple[Run, int]] = {}
    with ThreadPoolExecutor(jobs) as executor, ChildProcesses() as children:
        while True:
            ready = [run for run in waiting if unfinished.isdisjoint(run.dependencies)]
            active = min(jobs, len(running) + len(ready))
            for run in ready[: len(slots)]:
                waiting.remove(run)
                run.folder.mkdir(parents=True, exist_ok=True)
                slot = slots.pop(0)
                process = children.start(run.command, _environment(slot, active))
                running[executor.submit(follow, process, run.name, run.log)] = run, slot
            if not running:
                return failed, waiting
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                run, slot = running.pop(future)
                slots.append(slot)
                if future.result() == 0 and run.done:
                    unfinished.remove(run)
                    continue
                failed.append(run)
                if quiet:
                    continue
                end = "".join(run.log.read_text().splitlines(keepends=True)[-15:])
                tqdm.write(f"\n{run.name} failed. Full log: {run.log}, last lines:\n{end}")


def _environment(slot: int, active: int) -> dict[str, str]:
    """Environment of the process in one of the ``jobs`` slots: one of ``active`` shares of the cores, and one GPU."""
    threads = max(1, (os.cpu_count() or 1) // active)
    environment = {"OMP_NUM_THREADS": str(threads), **os.environ}
    count = torch.cuda.device_count()
    if count:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(count)))
        environment["CUDA_VISIBLE_DEVICES"] = visible.split(",")[slot % count]
    return environment
