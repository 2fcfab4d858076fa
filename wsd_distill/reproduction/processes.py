"""Child processes that do not outlive this one, and what they say."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tqdm import tqdm

_ENDING = {signal.SIGTERM, signal.SIGINT}
_PR_SET_PDEATHSIG = 1  # prctl(2), Linux alone
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


@contextlib.contextmanager
def terminate_on_exit() -> Iterator[list[subprocess.Popen]]:
    """A list for processes; those that are in it at the end, which may come by SIGTERM (as SystemExit), are ended."""

    def leave(number: int, _) -> None:
        raise SystemExit(128 + number)

    children, before = [], signal.signal(signal.SIGTERM, leave)
    try:
        yield children
    finally:
        _end(children)
        signal.signal(signal.SIGTERM, before)


def _end(processes: list[subprocess.Popen], patience: float = 10.0) -> None:
    """With all that they have started; what does not go within ``patience`` seconds is killed."""
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
    deadline = time.monotonic() + patience
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, deadline - time.monotonic()))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def start(
    children: list[subprocess.Popen],
    command: list[str],
    environment: dict[str, str],
    name: str,
    log: Path,
    on_exit: Callable[[], None],
) -> subprocess.Popen:
    """One more of the children, a process group of its own.

    A thread listens to it and calls ``on_exit`` when it has nothing more to say. To be called in the main thread: Linux
    ends a child with the thread that made it.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)  # or a signal could find it started, but not among the children
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=environment,
            start_new_session=True,
            preexec_fn=_prepare,
        )
        children.append(process)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
    threading.Thread(target=_forward_output, args=(process, name, log, on_exit), daemon=True).start()
    return process


def _prepare() -> None:
    """In the child: signals reach it, on Linux SIGTERM too when its parent is gone, even killed."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
    if _libc:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _forward_output(process: subprocess.Popen, name: str, log: Path, on_exit: Callable[[], None]) -> None:
    """All that it says goes to its log, the iterations of a training to a bar."""
    try:
        with open(log, "a") as file, process.stdout, tqdm(desc=name, unit="it") as bar:
            file.write(f"$ {shlex.join(process.args)}\n")
            for line in process.stdout:
                file.write(line)
                file.flush()
                _follow(line, bar)
    finally:
        on_exit()


def _follow(line: str, bar: tqdm) -> None:
    """Move the bar to what a line of Detectron2's log tells."""
    found = re.search(r"eta: (\S+)\s+iter: (\d+).*?total_loss: (\S+)", line)
    if found:
        bar.update(int(found[2]) + 1 - bar.n)
        bar.set_postfix_str(f"{found[1]} left, loss {found[3]}")
