"""Connection to a Ray cluster, and independent jobs on it."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

import cv2

try:
    import ray
except ImportError:
    raise ValueError("--ray needs Ray, which is not installed: pip install wsd_distill[cluster]") from None


@contextmanager
def connect(address: str = "local") -> Iterator[None]:
    """Connect to a Ray cluster in this block.

    Args:
        address: of a running cluster, or "auto"; "local" starts one on this machine, for the time of the block.

    Raises:
        ConnectionError: no cluster runs at the address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    options: dict = {"num_cpus": max(2, os.cpu_count() or 1)} if address == "local" else {}
    ray.init(address=address, log_to_driver=False, include_dashboard=False if address == "local" else None, **options)
    try:
        yield
    finally:
        ray.shutdown()


def run_ray_jobs(function: Callable, jobs: list[tuple], num_workers: int = 0) -> Generator[Any, None, None]:
    """Yield ``function(*job)`` for all jobs, in the order of completion, as ``data.workers.run_jobs``.

    Paths are relative to the working folder of this process, which all machines must have. Ray repeats the jobs of a
    lost machine. A job takes one CPU of the cluster, whatever ``num_workers`` is.

    Raises:
        RuntimeError: a worker was killed several times.
    """
    task = ray.remote(_run_job)
    waiting = [task.remote(os.getcwd(), function, job) for job in jobs]
    try:
        while waiting:
            done, waiting = ray.wait(waiting)
            yield ray.get(done[0])
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError) as error:
        raise RuntimeError("a worker of Ray was killed (out of memory?): start the same command again") from error
    finally:
        for reference in waiting:
            ray.cancel(reference, force=True)


def _run_job(folder: str, function: Callable, job: tuple) -> Any:
    os.chdir(folder)
    cv2.setNumThreads(1)
    return function(*job)
