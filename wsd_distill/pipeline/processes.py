"""Child processes that end with their parent."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

TIMEOUT = 10.0  # seconds from SIGTERM to SIGKILL
_PR_SET_PDEATHSIG = 1  # prctl(2), Linux only
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


class ChildProcesses:
    """Start commands; leaving the block, also by an exception or SIGTERM, terminates those still running."""

    def __init__(self) -> None:
        self._started: list[subprocess.Popen] = []

    def __enter__(self) -> ChildProcesses:
        self._previous_handler = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
        return self

    def __exit__(self, *_: object) -> None:
        running = [process for process in self._started if process.poll() is None]
        for process in running:
            _kill(process, signal.SIGTERM)
        deadline = time.monotonic() + TIMEOUT
        for process in running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
            _kill(process, signal.SIGKILL)
        signal.signal(signal.SIGTERM, self._previous_handler)

    def start(self, command: list[str], environment: dict[str, str]) -> subprocess.Popen:
        """Start a process in its own group. On Linux it ends with the calling thread, even if that is killed."""
        end_with_parent = partial(_libc.prctl, _PR_SET_PDEATHSIG, signal.SIGTERM) if _libc else None
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        options: dict[str, Any] = {"text": True, "errors": "replace", "start_new_session": True, **pipes}
        process = subprocess.Popen(command, env=environment, preexec_fn=end_with_parent, **options)
        self._started.append(process)
        return process


def follow(process: subprocess.Popen, name: str, log: Path) -> int:
    """Write the output of a process to ``log`` and its progress to a bar until it ends; return its exit status."""
    assert process.stdout is not None and isinstance(process.args, list)  # a pipe; the command of ``start``
    with open(log, "a") as file, tqdm(desc=name, unit="it") as bar, process.stdout as output:
        file.write(f"$ {shlex.join(process.args)}\n")
        for line in output:
            file.write(line)
            file.flush()
            found = re.search(r"eta: (\S+)\s+iter: (\d+).*?total_loss: (\S+)", line)  # Detectron2's log
            if found:
                bar.update(int(found[2]) + 1 - bar.n)
                bar.set_postfix_str(f"{found[1]} left, loss {found[3]}")
    return process.wait()


def _kill(process: subprocess.Popen, number: int) -> None:
    """Send a signal to a process and its own children."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
