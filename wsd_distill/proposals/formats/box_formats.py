"""Columns and units of the boxes in proposal files."""

from __future__ import annotations

import numpy as np

# Columns in pixels; with "-relative" as fractions of the width and height of the image.
PIXEL_FORMATS = ("x1y1x2y2", "y1x1y2x2", "xywh", "cxcywh")
RELATIVE_FORMATS = tuple(f"{name}-relative" for name in PIXEL_FORMATS)
BOX_FORMATS = PIXEL_FORMATS + RELATIVE_FORMATS


def to_xyxy(
    boxes: np.ndarray, box_format: str, height: int = 0, width: int = 0, *, one_based: bool = False
) -> np.ndarray:
    """Convert boxes to XYXY_ABS.

    Args:
        boxes: (R, 4) as in the file.
        box_format: one of ``BOX_FORMATS``.
        height, width: of the image; used by relative formats.
        one_based: pixels are counted from 1 and boxes include their last one, as in MATLAB. Detectron2's boxes are
            continuous, so 1 is subtracted from the first corner only.

    Returns:
        (R, 4) float32.
    """
    columns, _, relative = box_format.partition("-")
    boxes = np.array(boxes, dtype=np.float64)
    if columns == "y1x1y2x2":
        boxes = boxes[:, [1, 0, 3, 2]]
    if one_based and not relative:
        boxes[:, :2] -= 0.5 if columns == "cxcywh" else 1
    if columns == "cxcywh":
        boxes[:, :2] -= boxes[:, 2:] / 2
    if columns in ("xywh", "cxcywh"):
        boxes[:, 2:] += boxes[:, :2]
    if relative:
        boxes *= [width, height, width, height]
    return boxes.astype(np.float32)
