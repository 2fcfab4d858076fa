"""How many objects of a dataset its proposals cover."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from detectron2.structures import BoxMode

from ..data.proposal_store import ProposalStore


def pairwise_iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(M, 4), (R, 4) XYXY_ABS -> (M, R) intersection over union; 0 where both are empty."""
    corner = np.maximum(first[:, None, :2], second[None, :, :2])
    extent = np.minimum(first[:, None, 2:], second[None, :, 2:]) - corner
    shared = extent.clip(0).prod(2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(1) for boxes in (first, second)]
    union = areas[0][:, None] + areas[1][None] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def object_boxes(record: dict) -> np.ndarray:
    """(M, 4) float64 XYXY_ABS of a dataset dict's ``annotations``, without crowds and difficult objects."""
    boxes = [
        BoxMode.convert(annotation["bbox"], annotation["bbox_mode"], BoxMode.XYXY_ABS)
        for annotation in record["annotations"]
        if not (annotation.get("iscrowd") or annotation.get("difficult"))
    ]
    return np.array(boxes, dtype=np.float64).reshape(-1, 4)


def proposal_recall(
    store: ProposalStore,
    dataset_dicts: Iterable[dict],
    tops: Sequence[int | None] = (100, 500),
    thresholds: Sequence[float] = (0.5, 0.7),
) -> np.ndarray | None:
    """Share of annotated boxes that a proposal covers with at least a given IoU.

    Images are read from the store one at a time; those without ``annotations`` do not count.

    Args:
        tops: how many of the best proposals of an image to look at; None: all.
        thresholds: least IoU.

    Returns:
        (len(tops), len(thresholds)) in 0..1, or None where no image has an annotated box.
    """
    hits, objects = np.zeros((len(tops), len(thresholds))), 0
    for record in dataset_dicts:
        truth = object_boxes(record) if record.get("annotations") else ()
        if len(truth) == 0:
            continue
        overlaps = pairwise_iou(truth, store[record["image_id"]][0])  # (M, R)
        best = np.array([overlaps[:, :top].max(axis=1, initial=0) for top in tops])  # (tops, M)
        hits += (best[:, None, :] >= np.asarray(thresholds)[None, :, None]).sum(2)
        objects += len(truth)
    return hits / objects if objects else None
