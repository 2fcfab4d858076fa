"""Files that are whole or not there, and folders that one process at a time works in."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


@contextmanager
def written_whole(path: str | os.PathLike) -> Iterator[Path]:
    """A file beside ``path``, in a folder that is made if need be, to write what ``path`` is to hold.

    It takes the place of ``path`` when the block ends, or is removed where the block raises: a reader sees the old
    file or the new, never half of one.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.unfinished")
    try:
        yield unfinished
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def locked(path: str | os.PathLike, *, wait: bool = False) -> Iterator[TextIO]:
    """``path``, open to read and append, locked until the block or this process ends, however it ends.

    The lock is ``flock``'s, which Linux passes on over NFS.

    Args:
        wait: for a process that has it to let it go.

    Raises:
        RuntimeError: another process has it; names the folder of ``path``.
    """
    with open(path, "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            folder = os.path.dirname(path)
            raise RuntimeError(f"another process is at work in {folder}: wait for it or stop it") from error
        yield file
