"""Independent jobs in worker processes that end with their parent."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing.synchronize import Event
from typing import Any

import cv2

_AHEAD = 4  # jobs per worker that wait, so that memory does not grow with their number
_stop: Event | None = None  # in a worker: event that the parent sets to cancel the remaining work


class Cancelled(BaseException):
    """Raised in a worker whose parent was interrupted.

    Derives from BaseException so that handlers of bad images do not catch it.
    """


def raise_if_cancelled() -> None:
    """Raise Cancelled in a worker whose parent was interrupted."""
    if _stop is not None and _stop.is_set():
        raise Cancelled


def run_jobs(function: Callable, jobs: Iterable[tuple], num_workers: int) -> Generator[Any, None, None]:
    """Yield ``function(*job)`` for all jobs, in the order of completion.

    Workers come from a fork server, because threads of PyTorch and OpenCV do not survive a fork of this process.
    Functions, arguments and results must be picklable.

    With ``num_workers=0`` the jobs run in this process.

    Raises:
        RuntimeError: a worker was killed.
    """
    if num_workers == 0:
        yield from (function(*job) for job in jobs)
        return
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", function.__module__])
    stop = context.Event()
    waiting, running = iter(jobs), set[Future]()
    with ProcessPoolExecutor(num_workers, context, _start_worker, (stop,)) as pool:
        try:
            while True:
                running |= {pool.submit(function, *job) for job in islice(waiting, _AHEAD * num_workers - len(running))}
                if not running:
                    return
                finished, running = wait(running, return_when=FIRST_COMPLETED)
                yield from (job.result() for job in finished)
        except BrokenProcessPool as error:
            message = "a worker process was killed (out of memory?): run again, if needed with fewer workers"
            raise RuntimeError(message) from error
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


def _start_worker(stop: Event) -> None:
    global _stop
    _stop = stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; only the parent handles it
    cv2.setNumThreads(1)
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    """Exit with a killed parent, instead of waiting for jobs forever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
