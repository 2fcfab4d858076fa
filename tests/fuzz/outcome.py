"""Read a damaged file, and judge what came of it."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from pathlib import Path

from .formats import Format

SECONDS = 20  # for one file


@contextmanager
def time_limit(seconds: int):
    """Raise TimeoutError in this block after ``seconds``."""

    def stop(*_):
        raise TimeoutError(f"still reading after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def judge(found: Format, path: Path, sound: str, data: bytes) -> str:
    """Write ``data`` to ``path`` and read it.

    Args:
        sound: ``repr`` of what the sound file contains.

    Returns:
        "read" or "refused"; anything else describes a fault of the reader.
    """
    path.write_bytes(data)
    try:
        with time_limit(SECONDS):
            content = found.read(path)
    except Exception as error:
        return _judge_error(error, found.named or path.name)
    if found.checked and repr(content) != sound:
        return f"wrong values: {content!r:.200}"
    return "read"


def _judge_error(error: Exception, name: str) -> str:
    kind, text = type(error), str(error)
    ours = kind in (ValueError, FileNotFoundError) or kind.__module__.startswith("wsd_distill")
    if not ours:
        return f"foreign error: {kind.__module__}.{kind.__name__}: {text:.200}"
    if name not in text:
        return f"error without the file's name: {text:.200}"
    if "weights_only" in text:
        return f"advice to switch protection off: {text:.200}"
    return "refused"
