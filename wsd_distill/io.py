"""Atomic file writes, locks between processes, and the root folder of the datasets."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

LOCK_TIMEOUT = 10.0  # seconds; PyTorch's workers check every 5 s whether their parent is alive


def datasets_root() -> str:
    """Return ``$DETECTRON2_DATASETS``, by default ``datasets``, as Detectron2 does."""
    return os.path.expanduser(os.environ.get("DETECTRON2_DATASETS", "datasets"))


@contextmanager
def atomic_write(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path that replaces ``path`` when the block succeeds.

    Readers see the old file or the complete new one. If the block raises, the temporary file is removed and ``path``
    stays unchanged. Missing parent folders are created.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    tmp_path = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        yield tmp_path
        os.replace(tmp_path, path)
    finally:
        tmp_path.unlink(missing_ok=True)


@contextmanager
def file_lock(path: str | os.PathLike, *, wait: bool = False) -> Iterator[TextIO]:
    """Open ``path`` for reading and appending, and hold an exclusive lock on it.

    The lock is an ``flock``, which Linux supports over NFS. It ends with the block or with the process. Processes
    forked inside the block (DataLoader workers) inherit it; after their parent was killed they keep it for a few
    seconds, less than ``LOCK_TIMEOUT``.

    Args:
        path: lock file, created if missing.
        wait: wait without a time limit instead of ``LOCK_TIMEOUT`` seconds.

    Raises:
        RuntimeError: another process still holds the lock after ``LOCK_TIMEOUT``; names the folder of ``path``.
    """
    deadline = time.monotonic() + LOCK_TIMEOUT
    with open(path, "a+") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    folder = os.path.dirname(path)
                    raise RuntimeError(f"another process is using {folder}: wait for it or stop it") from None
                time.sleep(0.1)
        try:
            yield file
        finally:
            file.flush()
            fcntl.flock(file, fcntl.LOCK_UN)  # closing is not enough: forked processes keep the file open
