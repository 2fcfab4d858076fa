"""Small photos for HTML pages."""

from __future__ import annotations

import base64

import cv2

from wsd_distill.data.image import ImageError, ImageFile

THUMBNAIL = 128  # pixels of the longer side


def make_thumbnail(path: str, longest: int = THUMBNAIL) -> str | None:
    """Return a JPEG of at most ``longest`` pixels a side in base64; None if the photo cannot be read."""
    try:
        pixels = ImageFile(path).pixels(min_size=longest)
    except ImageError:
        return None
    height, width = pixels.shape[:2]
    scale = min(1.0, longest / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.cvtColor(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2BGR)
    data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 80])[1]
    return base64.b64encode(data.tobytes()).decode()
