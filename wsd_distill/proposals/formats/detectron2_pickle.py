"""Detectron2's proposal pickle.

It is a dict with "ids", "boxes", "objectness_logits" and "bbox_mode". In Detectron1, "ids" was called "indexes",
"objectness_logits" was "scores", and "bbox_mode" was absent (XYXY_ABS).
"""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
from detectron2.structures import BoxMode

from .proposal_file import ProposalFile, Proposals, Rows

_ALLOWED_GLOBALS: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): np.zeros(1).__reduce__()[0],
    ("numpy.core.multiarray", "scalar"): np.float32(0).__reduce__()[0],
    ("numpy.core.numeric", "_frombuffer"): np.zeros(1).__reduce_ex__(5)[0],
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("detectron2.structures.boxes", "BoxMode"): int,
    ("_codecs", "encode"): lambda text, encoding: text.encode("latin1"),  # bytes of an array, before protocol 3
}


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickler that allows builtin values, NumPy arrays and BoxMode only."""

    def find_class(self, module: str, name: str) -> Any:
        key = module.replace("numpy._core.", "numpy.core."), name  # renamed in NumPy 2
        if key in _ALLOWED_GLOBALS:
            return _ALLOWED_GLOBALS[key]
        raise pickle.UnpicklingError(f"it imports '{module}.{name}', and only arrays are allowed")


def read(path: str) -> ProposalFile:
    """Read a proposal pickle into memory, without running code from the file.

    Raises:
        ValueError: not a proposal pickle, or a pickle that imports anything but arrays.
    """
    with open(path, "rb") as file:
        try:
            content = _ArrayUnpickler(file, encoding="latin1").load()  # latin1: strings and arrays of Python 2
        except Exception as error:  # an invalid file can raise anything
            raise ValueError(f"{path} is truncated or not a pickle of arrays: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} contains a {type(content).__name__}, expected a dict of proposals")
    ids = _column(path, content, "ids", "indexes")
    boxes = _column(path, content, "boxes")
    scores = _column(path, content, "objectness_logits", "scores")
    if not len(ids) == len(boxes) == len(scores):
        raise ValueError(f"{path}: {len(ids)} ids, {len(boxes)} arrays of boxes, {len(scores)} of scores")
    mode = content.get("bbox_mode", BoxMode.XYXY_ABS)
    if mode not in (BoxMode.XYXY_ABS, BoxMode.XYWH_ABS):
        raise ValueError(f"{path} has the bbox_mode {mode!r}, expected 0 (XYXY_ABS) or 1 (XYWH_ABS)")
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
    """Write a proposal pickle, collecting everything in memory first."""
    content: dict[str, Any] = {"ids": [], "boxes": [], "objectness_logits": [], "bbox_mode": BoxMode.XYXY_ABS.value}
    for record, boxes, scores in rows:
        content["ids"].append(record["image_id"])
        content["boxes"].append(boxes)
        content["objectness_logits"].append(scores)
    with open(path, "wb") as file:
        pickle.dump(content, file, protocol=pickle.HIGHEST_PROTOCOL)
