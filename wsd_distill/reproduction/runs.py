"""Commands that need one another, several at once; what is done already is not done again."""

from __future__ import annotations

import os
import queue
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

from .processes import start, terminate_on_exit


@dataclass(eq=False)
class Run:
    """One command.

    Attributes:
        name: for people, and unique. command: arguments of a process.
        output: folder of its log, and of all else that it writes unless ``results`` lie elsewhere.
        results: files that are all there once it is complete, and not before. needs: what has to be done first.
        check: start it also where its results are there, for it finds out whether they are what was asked for.
    """

    name: str
    command: list[str]
    output: Path
    results: list[Path]
    needs: list[Run] = field(default_factory=list)
    check: bool = False

    @property
    def done(self) -> bool:
        return all(path.exists() for path in self.results)

    @property
    def log(self) -> Path:
        return self.output / "stdout.txt"

    @property
    def weights(self) -> Path:
        """What a training leaves."""
        return self.output / "model_final.pth"


def missing(goals: Iterable[Run]) -> list[Run]:
    """What has to run until all goals are done, each run once and after what it needs."""
    found: dict[Run, None] = {}

    def visit(run: Run) -> None:
        if (run.check or not run.done) and run not in found:
            for needed in run.needs:
                visit(needed)
            found[run] = None

    for goal in goals:
        visit(goal)
    return list(found)


def default_jobs() -> int:
    """One for each GPU; without, one for each core up to four, for small models gain little from more threads."""
    return torch.cuda.device_count() or min(4, os.cpu_count())


def finish(goals: Iterable[Run], jobs: int) -> tuple[list[Run], list[Run]]:
    """Do what is missing, each run as soon as what it needs is there, ``jobs`` at once.

    A failed run does not keep those back that can do without it. However this function is left, also by SIGTERM, which
    ends it by SystemExit, no process that it has started remains.

    Returns:
        The runs that failed, and those that were not started, since they need one of them.
    """
    waiting, running, failed, places = missing(goals), {}, [], list(range(jobs))
    ended: queue.Queue[Run] = queue.Queue()
    with terminate_on_exit() as children:
        while True:
            unsure = {*waiting, *running, *failed}
            ready = [run for run in waiting if all(need.done and need not in unsure for need in run.needs)]
            at_work = min(jobs, len(running) + len(ready))
            for run in ready[: len(places)]:
                waiting.remove(run)
                run.output.mkdir(parents=True, exist_ok=True)
                place = places.pop(0)
                environment = _environment(place, at_work)
                process = start(children, run.command, environment, run.name, run.log, partial(ended.put, run))
                running[run] = (process, place)
            if not running:
                return failed, waiting
            run = ended.get()
            process, place = running.pop(run)
            places.append(place)
            if process.wait() != 0 or not run.done:
                failed.append(run)
                tqdm.write(f"\n{run.name} failed; all that it said is in {run.log}, the end of it:\n{_tail(run)}")
            children.remove(process)


def _environment(place: int, at_work: int) -> dict[str, str]:
    """Of the process in one of the ``jobs`` places: its share of the cores, and one GPU where there are any."""
    threads = max(1, os.cpu_count() // at_work)
    environment = {"OMP_NUM_THREADS": str(threads), **os.environ}
    count = torch.cuda.device_count()
    if count:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(count)))
        environment["CUDA_VISIBLE_DEVICES"] = visible.split(",")[place % count]
    return environment


def _tail(run: Run, lines: int = 15) -> str:
    return "".join(run.log.read_text().splitlines(keepends=True)[-lines:])
