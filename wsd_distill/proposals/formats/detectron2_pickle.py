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
from .proposal_file import ProposalFile, Proposals, Rows


def read(path: str) -> ProposalFile:
    """Read a proposal pickle into memory, without running code from the file.

    Raises:
        ValueError: not a proposal pickle, or a pickle that imports anything but arrays.
    """
    content = load_pickle(path)
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
