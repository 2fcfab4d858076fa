"""Detectron2's proposal pickle: a dict of "ids", "boxes", "objectness_logits" and "bbox_mode".

Detectron1 called two of them "indexes" and "scores" and has no "bbox_mode", which then is XYXY_ABS.
"""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
from detectron2.structures import BoxMode

from .proposal_file import ProposalFile, Proposals, Rows

# What NumPy pickles arrays and scalars with, asked of NumPy: it has been in "numpy.core" and is in "numpy._core".
_MAKERS = {
    ("multiarray", "_reconstruct"): np.zeros(1).__reduce__()[0],
    ("multiarray", "scalar"): np.float32(0).__reduce__()[0],
    ("numeric", "_frombuffer"): np.zeros(1).__reduce_ex__(5)[0],
}
_ALLOWED_GLOBALS = {
    **{
        (f"numpy.{core}.{module}", name): maker
        for core in ("core", "_core")
        for (module, name), maker in _MAKERS.items()
    },
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("detectron2.structures.boxes", "BoxMode"): int,
    ("_codecs", "encode"): lambda text, encoding: text.encode("latin1"),  # bytes of an array, in protocols before 3
}


class _ArrayUnpickler(pickle.Unpickler):
    """Lets numbers, strings, containers and NumPy arrays in, and Detectron2's name of a box mode."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _ALLOWED_GLOBALS:
            return _ALLOWED_GLOBALS[module, name]
        raise pickle.UnpicklingError(f"it wants to import '{module}.{name}', and only arrays are let in")


def read(path: str) -> ProposalFile:
    """The whole file comes into memory.

    Raises:
        ValueError: no such pickle, or one that would run code.
    """
    with open(path, "rb") as file:
        try:
            content = _ArrayUnpickler(file, encoding="latin1").load()  # latin1: strings and arrays of Python 2
        except Exception as error:  # what a file raises that is no pickle depends on its bytes
            raise ValueError(f"{path} is no whole pickle of arrays alone: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, not a dict of proposals")
    ids, boxes, scores = (
        _column(path, content, *names) for names in (("ids", "indexes"), ("boxes",), ("objectness_logits", "scores"))
    )
    if not len(ids) == len(boxes) == len(scores):
        raise ValueError(f"{path}: {len(ids)} ids, {len(boxes)} arrays of boxes, {len(scores)} of scores")
    mode = content.get("bbox_mode", BoxMode.XYXY_ABS)
    if mode not in (BoxMode.XYXY_ABS, BoxMode.XYWH_ABS):
        raise ValueError(f"{path} has the bbox_mode {mode!r}: it has to be 0 (XYXY_ABS) or 1 (XYWH_ABS)")
    mode = BoxMode(mode)

    def proposals(position: int) -> Proposals:
        found = np.asarray(boxes[position], dtype=np.float32).reshape(-1, 4)
        return BoxMode.convert(found, mode, BoxMode.XYXY_ABS), np.asarray(scores[position], dtype=np.float32)

    return ProposalFile(path, list(ids), proposals)


def _column(path: str, content: dict, *names: str) -> list:
    for name in names:
        if name in content:
            return content[name]
    raise ValueError(f"{path} has no '{names[0]}', only {sorted(map(str, content))}")


def write(path: str, rows: Rows) -> None:
    """Everything is in memory before it is written."""
    ids, boxes, scores = [], [], []
    for record, its_boxes, its_scores in rows:
        ids.append(record["image_id"])
        boxes.append(its_boxes)
        scores.append(its_scores)
    content = {"ids": ids, "boxes": boxes, "objectness_logits": scores, "bbox_mode": BoxMode.XYXY_ABS.value}
    with open(path, "wb") as file:
        pickle.dump(content, file, protocol=pickle.HIGHEST_PROTOCOL)
