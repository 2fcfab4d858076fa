"""Run commands in the order of their dependencies, several at once."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

import torch
from tqdm import tqdm

from .processes import ChildProcesses
from .run import Run, find_missing


def default_jobs() -> int:
    """One per GPU; without a GPU one per core, at most four, because small models gain little from more threads."""
    return torch.cuda.device_count() or min(4, os.cpu_count() or 1)


def run_missing(targets: Iterable[Run], jobs: int) -> tuple[list[Run], list[Run]]:
    """Start every missing run as soon as its dependencies are done, ``jobs`` at once.

    A failed run stops only the runs that depend on it. No child process is left when this function returns or raises,
    which it does as SystemExit on SIGTERM.

    Returns:
        Failed runs, and runs not started because a dependency failed.
    """
    waiting, failed, slots = find_missing(targets), [], list(range(jobs))
    running: dict[Future[int], tuple[Run, int]] = {}
    with ThreadPoolExecutor(jobs) as executor, ChildProcesses() as children:
        while True:
            unfinished = {*waiting, *failed, *(run for run, _ in running.values())}
            ready = [run for run in waiting if all(d.done and d not in unfinished for d in run.dependencies)]
            active = min(jobs, len(running) + len(ready))
            for run in ready[: len(slots)]:
                waiting.remove(run)
                run.folder.mkdir(parents=True, exist_ok=True)
                slot = slots.pop(0)
                environment = _environment(slot, active)
                running[executor.submit(children.run, run.command, environment, run.name, run.log)] = run, slot
            if not running:
                return failed, waiting
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                run, slot = running.pop(future)
                slots.append(slot)
                if future.result() != 0 or not run.done:
                    failed.append(run)
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
