"""Scaling of a photo before it is searched for objects."""

from __future__ import annotations

import cv2
import numpy as np


def resize_longest_side(image: np.ndarray, side: int) -> np.ndarray:
    """``image`` (H, W, C) enlarged or shrunk to this longest side, in pixels, at its aspect ratio."""
    height, width = image.shape[:2]
    longest = max(height, width)
    if side == longest:
        return image
    size = [max(1, round(extent * side / longest)) for extent in (width, height)]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if side < longest else cv2.INTER_LINEAR)
