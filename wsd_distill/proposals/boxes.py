"""Boxes that reach over the edge of their image."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class BoxCounts(NamedTuple):
    """How many boxes were cut at the edge of the image, and how many were dropped since no area was left of them."""

    clipped: int
    dropped: int


def clip_boxes(
    boxes: np.ndarray, scores: np.ndarray, height: int, width: int
) -> tuple[np.ndarray, np.ndarray, BoxCounts]:
    """Cut boxes at the edge of their image and drop those without area, whether they lie outside or came empty.

    Args:
        boxes: (R, 4) XYXY_ABS. scores: (R,).

    Returns:
        what is left of the two, in the same order, and the counts.
    """
    inside = boxes.clip(0, np.array([width, height, width, height], dtype=boxes.dtype))
    kept = (inside[:, 2:] > inside[:, :2]).all(axis=1)
    clipped = int((kept & (inside != boxes).any(axis=1)).sum())
    return inside[kept], scores[kept], BoxCounts(clipped, len(boxes) - int(kept.sum()))
