"""A progress bar that is also readable in log files."""

from __future__ import annotations

import io
import logging
import sys

from tqdm import tqdm

logger = logging.getLogger(__name__)

_LINE = "{desc}: {n_fmt} of {total_fmt} images, {rate_fmt}, {remaining} left"


class _LogLines(io.TextIOBase):
    """Log each update of tqdm as a line."""

    def write(self, text: str) -> int:
        if line := text.strip():
            logger.info(line)
        return len(text)


def progress_bar(images: int, done: int, seconds: float = 60.0) -> tqdm:
    """Show a bar on a terminal, otherwise a log line every ``seconds``."""
    options: dict = {}
    if not sys.stderr.isatty():
        options = {"file": _LogLines(), "mininterval": seconds, "maxinterval": seconds, "bar_format": _LINE}
    return tqdm(total=images, initial=done, unit=" images", desc="proposals", **options)
