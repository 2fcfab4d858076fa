"""A progress bar that is readable in a log file too."""

from __future__ import annotations

import io
import logging
import sys

from tqdm import tqdm

logger = logging.getLogger(__name__)

_LINE = "{desc}: {n_fmt} of {total_fmt} images, {rate_fmt}, {remaining} left"


class _LogLines(io.TextIOBase):
    """What tqdm would redraw in place becomes lines of the log."""

    def write(self, text: str) -> int:
        line = text.strip()
        if line:
            logger.info(line)
        return len(text)


def progress_bar(images: int, done: int, seconds: float = 60.0) -> tqdm:
    """Images, images/s and time left: redrawn on a terminal, a line every so many ``seconds`` elsewhere."""
    if sys.stderr.isatty():
        return tqdm(total=images, initial=done, unit="image", desc="proposals")
    return tqdm(
        total=images,
        initial=done,
        unit=" images",
        desc="proposals",
        file=_LogLines(),
        mininterval=seconds,
        maxinterval=seconds,
        bar_format=_LINE,
        dynamic_ncols=False,
    )
