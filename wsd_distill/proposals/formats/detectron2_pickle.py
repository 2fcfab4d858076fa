"""Detectron2's proposal pickle.

It is a dict with "ids", "boxes", "objectness_logits" and "bbox_mode". In Detectron1, "ids" was called "indexes",
"objectness_logits" was "scores", and "bbox_mode" was absent (XYXY_ABS).
"""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
from detectron2.structures import BoxMode

from ...pickles import load_pickle
from .proposal_file import ProposalFile, RawProposals, Rows, parse_name, parse_proposals

_BOX_FORMATS = {
    BoxMode.XYXY_ABS: "x1y1x2y2",
    BoxMode.XYWH_ABS: "xywh",
    BoxMode.XYXY_REL: "x1y1x2y2-relative",
    BoxMode.XYWH_REL: "xywh-relative",
}


def read(path: str) -> ProposalFile:
    """Read a proposal pickle into memory, without running code from the file.

    Raises:
        ValueError: not a proposal pickle, or a pickle that imports anything but arrays.
    """
    content = load_pickle(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path} contains a {type(content).__name__}, expected a dict of proposals")
    names = [parse_name(path, value) for value in _column(path, content, "ids", "indexes")]
    boxes = _column(path, content, "boxes")
    scores = _column(path, content, "objectness_logits", "scores")
    if not len(names) == len(boxes) == len(scores):
        raise ValueError(f"{path}: {len(names)} ids, {len(boxes)} arrays of boxes, {len(scores)} of scores")
    mode = content.get("bbox_mode", BoxMode.XYXY_ABS)
    if not isinstance(mode, int) or mode not in list(_BOX_FORMATS):
        expected = ", ".join(f"{each.value} ({each.name})" for each in _BOX_FORMATS)
        raise ValueError(f"{path} has the bbox_mode {mode!r}, expected one of {expected}")

    def proposals(position: int) -> RawProposals:
        if scores[position] is None:
            raise ValueError(f"{path}: image '{names[position]}' has no scores")
        return parse_proposals(f"{path}: image '{names[position]}'", boxes[position], scores[position])

    return ProposalFile(path, names, proposals, box_format=_BOX_FORMATS[BoxMode(mode)])


def _column(path: str, content: dict, *names: str) -> Any:
    for name in names:
        if name in content:
            column = content[name]
            if not isinstance(column, (list, tuple, np.ndarray)) or getattr(column, "shape", None) == ():
                kind = type(column).__name__
                raise ValueError(f"{path}: '{name}' is a {kind}, expected a list of one item per image")
            return column
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
