"""COCO's result JSON, and ``instances_predictions.pth`` of COCOEvaluator.

Classes are merged: an object detected under two classes gives two proposals. Both formats are read and written as a
whole, in memory.
"""

from __future__ import annotations

import json
import reprlib
from collections import defaultdict
from typing import Any

import numpy as np
import torch
from detectron2.structures import BoxMode

from ...data.datasets import readers
from ...data.types import DatasetDict
from ...modeling.checkpoints.load import read_weights
from .proposal_file import ProposalFile, RawProposals, Rows, parse_name

CATEGORY = 1  # category_id of written proposals, which have no class


def read_json(path: str) -> ProposalFile:
    """Read COCO's result JSON; raise ValueError for another format."""
    results = readers.read_json(path)
    if not isinstance(results, list):
        raise ValueError(f"{path} contains a {type(results).__name__}, expected a list of detections")
    per_image = defaultdict(list)
    names: dict[str, Any] = {}
    for result in results:
        image_id = _get(path, result, "image_id")
        name = parse_name(path, image_id)
        if names.setdefault(name, image_id) != image_id:
            raise ValueError(f"{path}: image '{name}' is listed twice, as {names[name]!r} and as {image_id!r}")
        per_image[name].append(result)
    return _proposal_file(path, list(per_image), list(per_image.values()))


def read_predictions(path: str) -> ProposalFile:
    """Read ``instances_predictions.pth``, without RPN proposals.

    Raises:
        ValueError: another format, or a damaged file (``read_weights``).
    """
    predictions: Any = read_weights(path)
    if not isinstance(predictions, list):
        raise ValueError(f"{path} contains a {type(predictions).__name__}, expected a list of predictions")
    names = [parse_name(path, _get(path, each, "image_id")) for each in predictions]
    return _proposal_file(path, names, [_get(path, each, "instances") for each in predictions])


def _proposal_file(path: str, names: list[str], per_image: list) -> ProposalFile:
    def proposals(position: int) -> RawProposals:
        name, results = names[position], per_image[position]
        if not isinstance(results, list):
            raise ValueError(f"{path}: the instances of image '{name}' are not a list of detections")
        boxes = np.array([_numbers(path, name, result, "bbox", (4,)) for result in results]).reshape(-1, 4)
        return boxes, np.array([_numbers(path, name, result, "score", ()) for result in results])

    return ProposalFile(path, names, proposals, box_format="xywh")


def _get(path: str, result: dict, key: str) -> Any:
    if not isinstance(result, dict) or key not in result:
        raise ValueError(f"{path}: {reprlib.repr(result)} has no '{key}'")
    return result[key]


def _numbers(path: str, name: str, result: dict, key: str, shape: tuple[int, ...]) -> np.ndarray:
    value = _get(path, result, key)
    try:
        return np.array(value, dtype=np.float64).reshape(shape)
    except (ValueError, TypeError, OverflowError):
        expected, text = "four numbers" if shape else "a number", reprlib.repr(value)
        raise ValueError(f"{path}: a result of image '{name}' has the {key} {text}, expected {expected}") from None


def write_json(path: str, rows: Rows) -> None:
    """Write COCO's result JSON."""
    with open(path, "w", encoding="utf-8") as file:
        json.dump([result for row in rows for result in _to_results(*row)], file)


def write_predictions(path: str, rows: Rows) -> None:
    """Write ``instances_predictions.pth``."""
    content = [{"image_id": row[0]["image_id"], "instances": _to_results(*row)} for row in rows]
    with open(path, "wb") as file:  # a full disk is then an OSError
        torch.save(content, file)


def _to_results(record: DatasetDict, boxes: np.ndarray, scores: np.ndarray) -> list[dict]:
    boxes = BoxMode.convert(boxes.astype(np.float64), BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)
    shared = {"image_id": record["image_id"], "category_id": CATEGORY}
    return [{**shared, "bbox": box, "score": score} for box, score in zip(boxes.tolist(), scores.tolist())]
