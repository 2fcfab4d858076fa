"""Common interface of the proposal file formats.

Readers return a :class:`ProposalFile`. Writers take ``(dataset dict, boxes, scores)`` for each image: boxes (R, 4)
float32 XYXY_ABS, scores (R,) float32, best first.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from ...data.datasets.readers import check_unique
from ...data.types import DatasetDict, Proposals

Row = tuple[DatasetDict, np.ndarray, np.ndarray]
Rows = Iterable[Row]

FORMATS = {".arrow": "store", ".pkl": "detectron2", ".mat": "mat", ".json": "coco", ".pth": "predictions"}


class ProposalFile(Mapping[str, Proposals]):
    """Mapping from image names to boxes (R, 4) XYXY_ABS and scores (R,), unsorted.

    Args:
        path: for error messages.
        names: names of the images: ids as strings, or file names without folder and suffix.
        read: position in ``names`` -> boxes and scores.
        key: key of a dataset dict that ``names`` refer to, "image_id" or "file_name".
        scores: origin of the scores, for the metadata of a store.

    Raises:
        ValueError: duplicate name.
    """

    def __init__(
        self,
        path: str,
        names: Sequence,
        read: Callable[[int], Proposals],
        *,
        key: str = "image_id",
        scores: str = "of the file",
    ) -> None:
        self.path, self.key, self.scores = path, key, scores
        self._read = read
        check_unique(map(str, names), path)
        self._positions = {str(name): position for position, name in enumerate(names)}

    def __getitem__(self, name: str) -> Proposals:
        return self._read(self._positions[name])

    def __contains__(self, name: object) -> bool:
        return name in self._positions

    def __iter__(self) -> Iterator[str]:
        return iter(self._positions)

    def __len__(self) -> int:
        return len(self._positions)

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
