"""Recall of proposals: the fraction of annotated objects that they cover."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from detectron2.structures import Boxes, BoxMode, pairwise_iou

from ..data.proposal_store import ProposalStore
from ..data.types import DatasetDict


def proposal_recall(
    store: ProposalStore,
    dataset_dicts: Iterable[DatasetDict],
    limits: Sequence[int | None] = (100, 500),
    thresholds: Sequence[float] = (0.5, 0.7),
) -> np.ndarray | None:
    """Compute the fraction of annotated boxes covered by a proposal.

    Crowds, difficult objects and images without annotated boxes are left out.

    Args:
        store: proposals of the dataset.
        dataset_dicts: images with ``annotations``.
        limits: numbers of best proposals per image to consider; None: all.
        thresholds: minimum IoU of a covered box.

    Returns:
        (len(limits), len(thresholds)) in 0..1, or None if no image has an annotated box.
    """
    hits, objects = np.zeros((len(limits), len(thresholds))), 0
    for record in dataset_dicts:
        truth = [
            BoxMode.convert(annotation["bbox"], annotation["bbox_mode"], BoxMode.XYXY_ABS)
            for annotation in record.get("annotations", [])
            if not (annotation.get("iscrowd") or annotation.get("difficult"))
        ]
        if not truth:
            continue
        overlaps = pairwise_iou(Boxes(np.array(truth)), Boxes(store[record["image_id"]][0])).numpy()  # (M, R) float32
        best = np.array([overlaps[:, :limit].max(axis=1, initial=0) for limit in limits])  # (limits, M)
        hits += (best[:, None, :] >= np.asarray(thresholds, np.float32)[None, :, None]).sum(2)
        objects += len(truth)
    return hits / objects if objects else None
