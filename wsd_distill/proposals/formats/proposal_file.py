"""Files of object proposals that other programs read and write; ``convert.py`` turns one kind into another.

Every reader gives a :class:`ProposalFile`; every writer takes ``(dataset dict, boxes, scores)`` of each image, boxes
(R, 4) float32 XYXY_ABS, scores (R,) float32, the best first.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np

Row = tuple[dict, np.ndarray, np.ndarray]
Rows = Iterable[Row]
Proposals = tuple[np.ndarray, np.ndarray]

FORMATS = {".arrow": "store", ".pkl": "detectron2", ".mat": "mat", ".json": "coco", ".pth": "predictions"}


class ProposalFile(Mapping):
    """Image -> boxes (R, 4) XYXY_ABS and scores (R,), in any order, read when it is asked for.

    Args:
        path: for messages.
        names: of the images: ids as strings, or file names without folder and suffix.
        read: position in ``names`` -> boxes and scores.
        key: which key of a dataset dict ``names`` are, "image_id" or "file_name".
        scores: where scores come from, in words, for the metadata of a store.

    Raises:
        ValueError: a name occurs twice.
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
        self._positions = {str(name): position for position, name in enumerate(names)}
        if len(self._positions) != len(names):
            seen: set[str] = set()
            twice = next(str(name) for name in names if str(name) in seen or seen.add(str(name)))
            raise ValueError(f"{path}: image '{twice}' occurs twice")

    def __getitem__(self, name: str) -> Proposals:
        return self._read(self._positions[name])

    def __contains__(self, name: object) -> bool:
        return name in self._positions

    def __iter__(self) -> Iterator[str]:
        return iter(self._positions)

    def __len__(self) -> int:
        return len(self._positions)

    def display_name(self, record: dict) -> str:
        """What the file calls the image of a dataset dict."""
        return file_stem(record["file_name"]) if self.key == "file_name" else str(record["image_id"])


def file_stem(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]


def guess_format(path: str) -> str:
    """By suffix; a folder is one of .mat files.

    Raises:
        ValueError: lists what it knows.
    """
    suffix = os.path.splitext(path)[1].lower()
    if os.path.isdir(path):
        return "mat"
    if suffix not in FORMATS:
        known = ", ".join(f"{end} ({name})" for end, name in FORMATS.items())
        raise ValueError(f"{path}: its suffix '{suffix}' tells no format, say which; known are {known}")
    return FORMATS[suffix]
