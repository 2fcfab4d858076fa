"""The page of ``wsd audit``: suspects one by one, with a decision for each; one file that loads nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import wsd_distill
from wsd_distill.data.image import ImageError, ImageFile
from wsd_distill.io import atomic_write
from wsd_distill.report.templates import render_page
from wsd_distill.report.thumbnails import make_thumbnail

from .suspects import Suspect

LONGEST = 256  # pixels of a photo's longer side


def write_page(path: Path, name: str, suspects: Sequence[Suspect], images: Path, num_photos: int, note: str) -> None:
    """Write the page.

    The browser keeps the decisions under a hash of the suspects, so that those of another audit are not mixed in.

    Args:
        path: of the HTML file.
        name: of the tagger.
        suspects: the most suspicious one first.
        images: folder of the photos.
        num_photos: that were searched.
        note: a sentence about the models.
    """
    digest = hashlib.blake2b(digest_size=8)
    for suspect in suspects:
        digest.update(f"{suspect.file}\0{suspect.label}\0{suspect.is_present}\0".encode())
    html = render_page(
        Path(__file__).with_name("page.html"),
        name=name,
        written=datetime.now().strftime("%Y-%m-%d %H:%M"),
        version=wsd_distill.__version__,
        key=f"wsd-audit:{digest.hexdigest()}",
        suspects=[(suspect, *_draw(suspect, images)) for suspect in suspects],
        num_photos=num_photos,
        note=note,
    )
    with atomic_write(path) as tmp_path:
        tmp_path.write_text(html, encoding="utf-8")


def _draw(suspect: Suspect, images: Path) -> tuple[str | None, str]:
    """Return the photo as a JPEG in base64, None if it cannot be read, and the style of its box in percent."""
    file = str(images / suspect.file)
    data = make_thumbnail(file, LONGEST)
    if data is None or suspect.box is None:
        return data, ""
    try:
        height, width = ImageFile(file).shape
    except ImageError:
        return data, ""
    x1, y1, x2, y2 = suspect.box
    left, top = 100 * x1 / width, 100 * y1 / height
    size = 100 * (x2 - x1) / width, 100 * (y2 - y1) / height
    return data, f"left: {left:.2f}%; top: {top:.2f}%; width: {size[0]:.2f}%; height: {size[1]:.2f}%"
