"""Checks of annotated boxes, which are used for evaluation only."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from detectron2.structures import BoxMode

IMPOSSIBLE = "impossible boxes are left out, and their labels kept"
OUTSIDE = "boxes reach outside of their image, and are kept"


def check_box(bbox: Any, bbox_mode: int, height: float | None, width: float | None) -> tuple[str, str] | None:
    """Return the kind (``IMPOSSIBLE`` or ``OUTSIDE``) and a description of what is wrong with a box, None if nothing.

    A box without area is kept, as COCO's own evaluation does.

    Args:
        bbox: four numbers, or whatever a file has instead.
        bbox_mode: ``BoxMode.XYXY_ABS`` or ``BoxMode.XYWH_ABS``.
        height, width: of the image in pixels; None: unknown.
    """
    values = _four_numbers(bbox)
    if values is None:
        return IMPOSSIBLE, f"the box {_shorten(bbox)} is not four finite numbers"
    x0, y0, x1, y1 = values
    if bbox_mode == BoxMode.XYWH_ABS:
        x1, y1 = x0 + x1, y0 + y1
    if x1 < x0 or y1 < y0:
        return IMPOSSIBLE, f"the box {_shorten(bbox)} has a negative width or height"
    if height is None or width is None:
        return None
    image = f"the image of {width:g} x {height:g} pixels"
    if x1 < 0 or y1 < 0 or x0 > width or y0 > height or x1 - x0 > 2 * width or y1 - y0 > 2 * height:
        return IMPOSSIBLE, f"the box {_shorten(bbox)} does not fit {image}"
    if x0 < -1 or y0 < -1 or x1 > width + 1 or y1 > height + 1:
        return OUTSIDE, f"the box {_shorten(bbox)} reaches outside of {image}"
    return None


def _four_numbers(bbox: Any) -> list[float] | None:
    if not isinstance(bbox, (list, tuple, np.ndarray)) or len(bbox) != 4:
        return None
    if not all(isinstance(value, (int, float, np.number)) and not isinstance(value, bool) for value in bbox):
        return None
    try:
        values = [float(value) for value in bbox]
    except OverflowError:  # an integer of hundreds of digits
        return None
    return values if all(map(math.isfinite, values)) else None


def _shorten(value: Any) -> str:
    text = repr(value.tolist() if isinstance(value, np.ndarray) else value)
    return text if len(text) <= 80 else f"{text[:80]}..."
