"""Detections as proposals: COCO's result JSON, and ``instances_predictions.pth`` of Detectron2's COCOEvaluator.

Classes are merged: an object that a detector names twice gives two proposals. Both files are read as a whole, and
everything is in memory before one is written.
"""

from __future__ import annotations

import json
import pickle
from collections import defaultdict

import numpy as np
import torch
from detectron2.structures import BoxMode

from ...data.datasets import readers
from .proposal_file import ProposalFile, Rows

CATEGORY = 1  # of what is written; proposals have no class


def read_json(path: str) -> ProposalFile:
    """
    Raises:
        ValueError: no JSON, or no list of results with image_id, bbox and score.
    """
    results = readers.read_json(path)
    if not isinstance(results, list):
        raise ValueError(f"{path} holds a {type(results).__name__}, not the list of a detector's results")
    per_image = defaultdict(list)
    for result in results:
        per_image[_value(path, result, "image_id")].append(result)
    return _file(path, list(per_image.items()))


def read_predictions(path: str) -> ProposalFile:
    """
    Raises:
        ValueError: other than what COCOEvaluator writes; RPN proposals are in ``box_proposals.pkl`` beside it.
    """
    try:
        predictions = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        # PyTorch's text stays out: it advises weights_only=False, which lets a file run code.
        raise ValueError(f"{path} is no file of plain predictions ({type(error).__name__})") from None
    if not isinstance(predictions, list):
        raise ValueError(f"{path} holds a {type(predictions).__name__}, not the list of a detector's predictions")
    pairs = [(_value(path, each, "image_id"), _value(path, each, "instances")) for each in predictions]
    return _file(path, pairs)


def _file(path: str, per_image: list[tuple]) -> ProposalFile:
    def proposals(position: int) -> tuple[np.ndarray, np.ndarray]:
        results = per_image[position][1]
        boxes = np.array([_numbers(path, result, "bbox", (4,)) for result in results]).reshape(-1, 4)
        scores = np.array([_numbers(path, result, "score", ()) for result in results])
        boxes = BoxMode.convert(boxes.astype(np.float32), BoxMode.XYWH_ABS, BoxMode.XYXY_ABS)
        return boxes, scores.astype(np.float32)

    return ProposalFile(path, [image_id for image_id, _ in per_image], proposals)


def _value(path: str, result: dict, key: str):
    if not isinstance(result, dict) or key not in result:
        raise ValueError(f"{path}: {str(result)[:80]} has no '{key}'")
    return result[key]


def _numbers(path: str, result: dict, key: str, shape: tuple[int, ...]) -> np.ndarray:
    value = _value(path, result, key)
    try:
        return np.array(value, dtype=np.float32).reshape(shape)
    except (ValueError, TypeError) as error:
        wanted = "four numbers" if shape else "a number"
        image = result.get("image_id")
        raise ValueError(f"{path}: a result of image {image!r} has the {key} {value!r}, not {wanted}") from error


def write_json(path: str, rows: Rows) -> None:
    results = [result for record, boxes, scores in rows for result in _results(record, boxes, scores)]
    with open(path, "w", encoding="utf-8") as file:
        json.dump(results, file)


def write_predictions(path: str, rows: Rows) -> None:
    predictions = [
        {"image_id": record["image_id"], "instances": _results(record, boxes, scores)} for record, boxes, scores in rows
    ]
    torch.save(predictions, path)


def _results(record: dict, boxes: np.ndarray, scores: np.ndarray) -> list[dict]:
    boxes = BoxMode.convert(boxes.astype(np.float64), BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)
    image = {"image_id": record["image_id"], "category_id": CATEGORY}
    return [{**image, "bbox": box, "score": score} for box, score in zip(boxes.tolist(), scores.tolist())]
