"""COCO's result JSON, and ``instances_predictions.pth`` of COCOEvaluator.

Classes are merged: an object detected under two classes gives two proposals. Both formats are read and written as a
whole, in memory.
"""

from __future__ import annotations

import json
import pickle
from collections import defaultdict
from typing import Any

import numpy as np
import torch
from detectron2.structures import BoxMode

from ...data.datasets import readers
from ...data.types import DatasetDict
from .proposal_file import ProposalFile, Rows

CATEGORY = 1  # category_id of written proposals, which have no class


def read_json(path: str) -> ProposalFile:
    """Read COCO's result JSON; raise ValueError for another format."""
    results = readers.read_json(path)
    if not isinstance(results, list):
        raise ValueError(f"{path} contains a {type(results).__name__}, expected a list of detections")
    per_image = defaultdict(list)
    for result in results:
        per_image[_get(path, result, "image_id")].append(result)
    return _proposal_file(path, list(per_image.items()))


def read_predictions(path: str) -> ProposalFile:
    """Read ``instances_predictions.pth``, without RPN proposals; raise ValueError for another format."""
    try:
        predictions = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        # Without PyTorch's message, which advises weights_only=False and thereby arbitrary code execution.
        raise ValueError(f"{path} is not a file of plain predictions ({type(error).__name__})") from None
    if not isinstance(predictions, list):
        raise ValueError(f"{path} contains a {type(predictions).__name__}, expected a list of predictions")
    per_image = [(_get(path, each, "image_id"), _get(path, each, "instances")) for each in predictions]
    return _proposal_file(path, per_image)


def _proposal_file(path: str, per_image: list[tuple]) -> ProposalFile:
    def proposals(position: int) -> tuple[np.ndarray, np.ndarray]:
        results = per_image[position][1]
        boxes = np.array([_numbers(path, result, "bbox", (4,)) for result in results]).reshape(-1, 4)
        scores = np.array([_numbers(path, result, "score", ()) for result in results])
        boxes = BoxMode.convert(boxes.astype(np.float32), BoxMode.XYWH_ABS, BoxMode.XYXY_ABS)
        return boxes, scores.astype(np.float32)

    return ProposalFile(path, [image_id for image_id, _ in per_image], proposals)


def _get(path: str, result: dict, key: str) -> Any:
    if not isinstance(result, dict) or key not in result:
        raise ValueError(f"{path}: {str(result)[:80]} has no '{key}'")
    return result[key]


def _numbers(path: str, result: dict, key: str, shape: tuple[int, ...]) -> np.ndarray:
    value = _get(path, result, key)
    try:
        return np.array(value, dtype=np.float32).reshape(shape)
    except (ValueError, TypeError) as error:
        image, expected = result.get("image_id"), "four numbers" if shape else "a number"
        raise ValueError(f"{path}: a result of image {image!r} has the {key} {value!r}, expected {expected}") from error


def write_json(path: str, rows: Rows) -> None:
    """Write COCO's result JSON."""
    with open(path, "w", encoding="utf-8") as file:
        json.dump([result for row in rows for result in _to_results(*row)], file)


def write_predictions(path: str, rows: Rows) -> None:
    """Write ``instances_predictions.pth``."""
    torch.save([{"image_id": row[0]["image_id"], "instances": _to_results(*row)} for row in rows], path)


def _to_results(record: DatasetDict, boxes: np.ndarray, scores: np.ndarray) -> list[dict]:
    boxes = BoxMode.convert(boxes.astype(np.float64), BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)
    shared = {"image_id": record["image_id"], "category_id": CATEGORY}
    return [{**shared, "bbox": box, "score": score} for box, score in zip(boxes.tolist(), scores.tolist())]
