"""Independent jobs in worker processes that stop when the parent stops."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

import cv2

_stop = None  # in a worker: the event by which the parent says that nobody waits for results any more


class Cancelled(BaseException):
    """Raised in a worker whose parent was interrupted. No Exception: handlers of bad images let it pass."""


def raise_if_cancelled() -> None:
    """To be called between the steps of a long job.

    Raises:
        Cancelled: the parent does not want the result any more.
    """
    if _stop is not None and _stop.is_set():
        raise Cancelled


def run_jobs(function: Callable, jobs: list[tuple], num_workers: int) -> Iterator:
    """Yield ``function(*job)`` of all jobs, in the order in which they finish.

    Args:
        num_workers: processes; 0 runs the jobs in this one. They are not forks of this one, since threads of PyTorch
            and OpenCV do not survive that, but of a server that imports what they need once. Everything passed on has
            to be picklable.

    Raises:
        RuntimeError: a worker was killed.
    """
    if num_workers == 0 or not jobs:
        yield from (function(*job) for job in jobs)
        return
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", function.__module__])
    stop = context.Event()
    with ProcessPoolExecutor(min(num_workers, len(jobs)), context, _start_worker, (stop,)) as pool:
        try:
            for finished in as_completed([pool.submit(function, *job) for job in jobs]):
                yield finished.result()
        except BrokenProcessPool as error:
            message = "a worker process was killed (out of memory?): run again, maybe with fewer workers"
            raise RuntimeError(message) from error
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


def _start_worker(stop: threading.Event) -> None:
    global _stop
    _stop = stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the parent alone answers it
    cv2.setNumThreads(1)
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    """A worker that waits for jobs of a killed parent would wait for ever."""
    multiprocessing.parent_process().join()
    os._exit(1)
