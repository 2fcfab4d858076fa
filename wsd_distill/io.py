"""Files: checks before reading, atomic writes, locks between processes, and the root folder of the datasets."""

from __future__ import annotations

import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

LOCK_TIMEOUT = 10.0  # seconds; PyTorch's workers check every 5 s whether their parent is alive


def datasets_root() -> str:
    """Return ``$DETECTRON2_DATASETS``, by default ``datasets``, as Detectron2 does."""
    return os.path.expanduser(os.environ.get("DETECTRON2_DATASETS", "datasets"))


def read_limit(name: str, default: float) -> float:
    """Return the limit that the environment variable ``name`` sets, by default ``default``.

    Raises:
        ValueError: the variable is not a number above 0.
    """
    text = os.environ.get(name, "")
    try:
        value = float(text) if text else default
    except ValueError:
        value = 0.0
    if not value > 0:
        raise ValueError(f"the environment variable {name} is {text!r}: set it to a number above 0, or unset it")
    return value


def check_file(path: str | os.PathLike) -> None:
    """Check that ``path`` is a regular file of a size that can be read, without opening it.

    Opening a FIFO would wait forever, and a device has no end.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is a folder, FIFO, socket or device, or has more than ``$WSD_MAX_FILE_GB`` (16) gigabytes.
    """
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a pipe, socket or device"
        raise ValueError(f"{os.fspath(path)} is {kind}, not a file: give the path of a file")
    limit = read_limit("WSD_MAX_FILE_GB", 16)
    if found.st_size > limit * 1e9:
        text = f"{os.fspath(path)} has {found.st_size / 1e9:.1f} GB, more than the limit of {limit:g}"
        raise ValueError(f"{text}: set the environment variable WSD_MAX_FILE_GB if it is right")


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
