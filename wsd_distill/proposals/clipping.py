"""Clipping of boxes to their image."""

from __future__ import annotations

import numpy as np


def clip_boxes(
    boxes: np.ndarray, scores: np.ndarray, height: int, width: int
) -> tuple[np.ndarray, np.ndarray, int, int]:
    """Clip boxes to their image and drop those without area.

    Args:
        boxes: (R, 4) XYXY_ABS.
        scores: (R,).
        height, width: of the image, in pixels.

    Returns:
        The remaining boxes and scores in the same order, the number of boxes clipped, and the number dropped.
    """
    inside = boxes.clip(0, np.array([width, height, width, height], dtype=boxes.dtype))
    kept = (inside[:, 2:] > inside[:, :2]).all(axis=1)
    clipped = int((kept & (inside != boxes).any(axis=1)).sum())
    return inside[kept], scores[kept], clipped, len(boxes) - int(kept.sum())
