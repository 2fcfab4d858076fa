"""Files: checks before reading, atomic writes, locks between processes, and the root folder of the datasets."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Set
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm")
LOCK_TIMEOUT = 10.0  # seconds; PyTorch's workers check every 5 s whether their parent is alive


def datasets_root() -> str:
    """Return ``$DETECTRON2_DATASETS``, by default ``datasets``, as Detectron2 does."""
    return expand_user(os.environ.get("DETECTRON2_DATASETS", "datasets"))


def expand_user(path: str) -> str:
    """Replace a leading ``~/`` or ``~name/`` by that user's home folder; any other text is returned unchanged."""
    return os.path.expanduser(path) if path == "~" or "/" in path else path


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


def check_file(path: str | os.PathLike, variable: str = "WSD_MAX_FILE_GB", limit: float = 16) -> None:
    """Check that ``path`` is a regular file of a size that can be read, without opening it.

    ``variable`` names the environment variable that sets the largest size, by default ``limit``, in gigabytes.

    Opening a FIFO would wait forever, and a device has no end.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is a folder, FIFO, socket or device, or is larger than the limit.
    """
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a pipe, socket or device"
        raise ValueError(f"{os.fspath(path)} is {kind}, not a file: give the path of a file")
    limit = read_limit(variable, limit)
    if found.st_size > limit * 1e9:
        text = f"{os.fspath(path)} has {found.st_size / 1e9:.1f} GB, more than the limit of {limit:g}"
        raise ValueError(f"{text}: set the environment variable {variable} if it is right")


def check_not_folder(path: str | Path) -> None:
    """Raise ValueError if ``path``, a file to write, is a folder."""
    if Path(path).is_dir():
        raise ValueError(f"{path} is a folder, and a file is to be written there: give another path, or move it away")


def check_writable(path: str | Path) -> None:
    """Check that ``path``, the file or folder of ``--out``, can be written, with a temporary file in its folder.

    Raises:
        OSError: it cannot; names the folder.
    """
    full = Path(path).absolute()
    folder = next(place for place in (full, *full.parents) if place.exists() and not (place == full and full.is_file()))
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        text = f"--out {path}: {folder} cannot be written to ({error.strerror})"
        raise OSError(f"{text}: give another path") from error


@contextmanager
def atomic_write(path: str | os.PathLike) -> Iterator[Path]:
    """Yield an empty temporary file that replaces ``path`` when the block succeeds.

    Readers see the old file or the complete new one, also after a power cut: the file and its folder are flushed to the
    disk. If the block raises, the temporary file is removed and ``path`` stays unchanged. Missing parent folders are
    created. Temporary files of killed processes for the same ``path`` are removed first; each writer holds a lock on
    its own, so that those of running processes, also on other machines, are kept.

    Args:
        path: file to replace. The block must write to the temporary file without deleting it.

    Raises:
        ValueError: ``path`` is a folder.
        OSError: the file cannot be written, for example because the disk is full; names ``path``.
    """
    path = Path(path)
    check_not_folder(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path.parent, path.name)
    tmp_path, lock = _create_locked(path)
    try:
        try:
            yield tmp_path
            os.fsync(lock)
            os.replace(tmp_path, path)
            _sync_folder(path.parent)
        except OSError as error:
            if error.errno is None or error.filename not in (None, tmp_path, str(tmp_path)):
                raise
            raise OSError(error.errno, f"{error.strerror or error} while writing", os.fspath(path)) from error
    finally:
        tmp_path.unlink(missing_ok=True)
        os.close(lock)


def _create_locked(path: Path) -> tuple[Path, int]:
    """Create a temporary file for ``path``; return its path and a descriptor that holds an exclusive lock on it."""
    while True:
        tmp_path = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
        descriptor = os.open(tmp_path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        with suppress(OSError):  # a file system without locks: nobody can lock it, and so nobody removes it
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):  # another process may have removed it before it was locked
            if os.stat(tmp_path).st_ino == os.fstat(descriptor).st_ino:
                return tmp_path, descriptor
        os.close(descriptor)


def remove_leftovers(folder: str | os.PathLike, name: str | None = None) -> None:
    """Remove temporary files of ``atomic_write`` in a folder whose writer has ended, which releases its lock.

    Args:
        name: file that they were to replace; None: any.
    """
    pattern = re.compile(rf"{'.+' if name is None else re.escape(name)}\.[0-9a-f]{{8}}\.tmp", re.DOTALL)
    for leftover in Path(folder).iterdir():
        if not pattern.fullmatch(leftover.name):
            continue
        with suppress(OSError), open(leftover, "r+b") as file:  # OSError: locked, or removed by another process
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            leftover.unlink()


def _sync_folder(folder: Path) -> None:
    """Flush the names of the files in a folder to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def replace_folder(folder: Path, parts: Set[str] = frozenset()) -> Iterator[Path]:
    """Yield an empty folder beside ``folder`` that takes its place when the block succeeds.

    Args:
        parts: names of files that ``folder`` may have, which are removed.

    Raises:
        FileExistsError: ``folder`` is a file, or has something else.
    """
    content = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if folder.exists() and (not folder.is_dir() or not content <= parts):
        raise FileExistsError(f"{folder} exists: delete it, or give another folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    tmp_path, old = (folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.{end}") for end in ("tmp", "old"))
    tmp_path.mkdir()
    try:
        yield tmp_path
        if folder.exists():
            folder.rename(old)
        tmp_path.rename(folder)
    finally:
        for path in (tmp_path, old):
            shutil.rmtree(path, ignore_errors=True)


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
