"""Files that are whole or not there, and folders that one process at a time works in."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

LOCK_TIMEOUT = 10.0  # seconds; PyTorch's workers look after their parent every five


@contextmanager
def atomic_write(path: str | os.PathLike) -> Iterator[Path]:
    """A file beside ``path``, in a folder that is made if need be, to write what ``path`` is to hold.

    It takes the place of ``path`` when the block ends, or is removed where the block raises: a reader sees the old
    file or the new, never half of one.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    tmp_path = path.with_name(f"{path.name}.{os.getpid()}.unfinished")
    try:
        yield tmp_path
        os.replace(tmp_path, path)
    finally:
        tmp_path.unlink(missing_ok=True)


@contextmanager
def file_lock(path: str | os.PathLike, *, wait: bool = False) -> Iterator[TextIO]:
    """``path``, open to read and append, locked until the block ends, or this process if it is killed in it.

    The lock is ``flock``'s, which Linux passes on over NFS. Processes that the block forks, workers of a DataLoader,
    have it too: those of a process that was killed keep it until they notice, a few seconds, which are waited for.

    Args:
        wait: for a process that has it to let it go, however long that takes.

    Raises:
        RuntimeError: another process has it, and still after ``LOCK_TIMEOUT``; names the folder of ``path``.
    """
    with open(path, "a+") as file:
        if wait:
            fcntl.flock(file, fcntl.LOCK_EX)
        elif not _lock_in_time(file):
            raise RuntimeError(f"another process is at work in {os.path.dirname(path)}: wait for it or stop it")
        try:
            yield file
        finally:
            file.flush()
            fcntl.flock(file, fcntl.LOCK_UN)  # closed here, the file is still open in processes that were forked


def _lock_in_time(file: TextIO) -> bool:
    deadline = time.monotonic() + LOCK_TIMEOUT
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.1)
