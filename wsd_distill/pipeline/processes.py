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
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

TIMEOUT = 10.0  # seconds from SIGTERM to SIGKILL
_PR_SET_PDEATHSIG = 1  # prctl(2), Linux only
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


class ChildProcesses:
    """Run commands; leaving the block, also by an exception or SIGTERM, terminates those still running."""

    def __init__(self) -> None:
        self._running: list[subprocess.Popen] = []
        self._lock = threading.Lock()
        self._closed = False

    def __enter__(self) -> ChildProcesses:
        self._previous_handler = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:  # waits for a process that another thread is starting
            self._closed, running = True, list(self._running)
        for process in running:
            _kill(process, signal.SIGTERM)
        deadline = time.monotonic() + TIMEOUT
        for process in running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
            _kill(process, signal.SIGKILL)
        signal.signal(signal.SIGTERM, self._previous_handler)

    def run(self, command: list[str], environment: dict[str, str], name: str, log: Path) -> int:
        """Run a command to its end; write its output to ``log`` and its progress to a bar. Return its exit status."""
        with open(log, "a") as file, tqdm(desc=name, unit="it") as bar:
            file.write(f"$ {shlex.join(command)}\n")
            process = self._start(command, environment)
            assert process.stdout is not None  # a pipe
            with process.stdout as output:
                for line in output:
                    file.write(line)
                    file.flush()
                    found = re.search(r"eta: (\S+)\s+iter: (\d+).*?total_loss: (\S+)", line)  # Detectron2's log
                    if found:
                        bar.update(int(found[2]) + 1 - bar.n)
                        bar.set_postfix_str(f"{found[1]} left, loss {found[3]}")
            process.wait()
        with self._lock:
            self._running.remove(process)
        return process.returncode

    def _start(self, command: list[str], environment: dict[str, str]) -> subprocess.Popen:
        """Start a process in its own group. On Linux it ends with the calling thread, even if that is killed."""
        with self._lock:
            if self._closed:
                raise RuntimeError(f"not started, because the program is ending: {shlex.join(command)}")
            end_with_parent = partial(_libc.prctl, _PR_SET_PDEATHSIG, signal.SIGTERM) if _libc else None
            pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
            options: dict[str, Any] = {"text": True, "errors": "replace", "start_new_session": True, **pipes}
            process = subprocess.Popen(command, env=environment, preexec_fn=end_with_parent, **options)
            self._running.append(process)
        return process


def _kill(process: subprocess.Popen, number: int) -> None:
    """Send a signal to a process and its own children."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
