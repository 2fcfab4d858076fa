"""Common interface of the proposal file formats.

Readers return a :class:`ProposalFile`. Writers take ``(dataset dict, boxes, scores)`` for each image: boxes (R, 4)
float32 XYXY_ABS, scores (R,) float32, best first.
"""

from __future__ import annotations

import os
import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...data.datasets.readers import check_unique
from ...data.image import UNKNOWN_IMAGE, ImageStamp
from ...data.types import DatasetDict
from .box_formats import to_xyxy

Row = tuple[DatasetDict, np.ndarray, np.ndarray]
Rows = Iterable[Row]
RawProposals = tuple[np.ndarray, "np.ndarray | None"]  # boxes (R, 4) and scores (R,) float64, as in the file

FORMATS = {".arrow": "store", ".pkl": "detectron2", ".mat": "mat", ".json": "coco", ".pth": "predictions"}
RANK_SCORES = "1 - rank / number"  # box i of R, from 0, in the order of the file: 1 - i / R


class ProposalFile(Mapping[str, RawProposals]):
    """Mapping from image names to boxes (R, 4) as in the file and scores (R,), unsorted.

    The scores are None where the file has none.

    Args:
        path: for error messages.
        names: names of the images: ids as strings, or file names without folder and suffix.
        read: position in ``names`` -> boxes and scores.
        box_format: columns and unit of the boxes, one of ``BOX_FORMATS``.
        one_based: as in :func:`to_xyxy`.
        key: key of a dataset dict that ``names`` refer to, "image_id" or "file_name".
        scores: origin of the scores, for the metadata of a store.
        stamps: position -> what identifies the image file; None for formats that do not record it.

    Raises:
        ValueError: duplicate name.
    """

    def __init__(
        self,
        path: str,
        names: Sequence,
        read: Callable[[int], RawProposals],
        *,
        box_format: str = "x1y1x2y2",
        one_based: bool = False,
        key: str = "image_id",
        scores: str = "of the file",
        stamps: Callable[[int], ImageStamp] | None = None,
    ) -> None:
        self.path, self.box_format, self.one_based = path, box_format, one_based
        self.key, self.scores = key, scores
        self._read, self.stamps = read, stamps
        check_unique(map(str, names), path)
        self._positions = {str(name): position for position, name in enumerate(names)}

    def __getitem__(self, name: str) -> RawProposals:
        return self._read(self._positions[name])

    def __contains__(self, name: object) -> bool:
        return name in self._positions

    def __iter__(self) -> Iterator[str]:
        return iter(self._positions)

    def __len__(self) -> int:
        return len(self._positions)

    def to_xyxy(self, boxes: np.ndarray, height: int = 0, width: int = 0, box_format: str | None = None) -> np.ndarray:
        """Convert boxes of this file to XYXY_ABS, (R, 4) float32; ``box_format`` replaces that of the file."""
        return to_xyxy(boxes, box_format or self.box_format, height, width, one_based=self.one_based)

    def stamp(self, name: str) -> ImageStamp:
        """Return what identifies the image file that the proposals belong to, as far as the file records it."""
        return self.stamps(self._positions[name]) if self.stamps else UNKNOWN_IMAGE

    def image_name(self, record: DatasetDict) -> str:
        """Return the name of an image in this file, whether or not the file contains it."""
        return Path(record["file_name"]).stem if self.key == "file_name" else str(record["image_id"])


def guess_format(path: str) -> str:
    """Return the format of a file by its suffix, else raise ValueError; a folder contains .mat files."""
    if os.path.isdir(path):
        return "mat"
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        known = ", ".join(f"{end} ({name})" for end, name in FORMATS.items())
        raise ValueError(f"{path}: unknown suffix '{suffix}', specify the format; known are {known}")
    return FORMATS[suffix]


def parse_name(path: str, value: Any) -> str:
    """Return the name of an image, stored as a number, text or bytes, or in an array of one element.

    Raises:
        ValueError: any other value; names the file.
    """
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.item()
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bytes):
        value = value.decode("latin1")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, (int, str)) or value == "":
        raise ValueError(f"{path}: {reprlib.repr(value)} is not the name of an image, expected text or a whole number")
    return str(value)


def parse_proposals(location: str, boxes: Any, scores: Any) -> RawProposals:
    """Convert the boxes and scores of an image to arrays.

    A single box may be (4,), and one score per box may be in any shape: (R,), (R, 1), or a number for one box.

    Args:
        location: file and image, for error messages.
        boxes: (R, 4), or (R, 5) with the scores in the last column; R may be 0.
        scores: (R,), or None.

    Raises:
        ValueError: other shapes or types; names the location.
    """
    boxes = _to_numbers(location, "boxes", boxes)
    scores = None if scores is None else _to_numbers(location, "scores", scores)
    if boxes.size == 0:
        boxes = np.zeros((0, 4))
    elif boxes.shape in ((4,), (5,)):
        boxes = boxes[None]
    if boxes.ndim != 2 or boxes.shape[1] not in (4, 5):
        raise ValueError(f"{location}: boxes {boxes.shape} are not (R, 4) or, with scores, (R, 5)")
    if scores is None and boxes.shape[1] == 5:
        scores = boxes[:, 4]
    if scores is not None and (scores.size != len(boxes) or scores.size not in (*scores.shape, 0, 1)):
        raise ValueError(f"{location}: {len(boxes)} boxes and scores {scores.shape} are not (R, 4) and (R,)")
    return boxes[:, :4], None if scores is None else scores.ravel()


def _to_numbers(location: str, name: str, values: Any) -> np.ndarray:
    nested = (list, tuple)
    if isinstance(values, nested) and any(
        isinstance(v, nested) and any(isinstance(w, nested) for w in v) for v in values
    ):
        raise ValueError(f"{location}: {name} are lists in lists in lists, expected numbers for each box")
    try:
        array = np.asarray(values)
        if array.dtype.kind not in "biufO":
            raise TypeError
        return array.astype(np.float64)
    except (ValueError, TypeError, OverflowError):
        raise ValueError(f"{location}: {name} {reprlib.repr(values)} are not numbers") from None
