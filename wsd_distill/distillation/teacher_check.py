"""Sanity check of the teacher before training."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import NamedTuple, cast

import numpy as np
import torch
from detectron2.data import DatasetCatalog
from detectron2.utils import comm
from torch import Tensor
from tqdm import tqdm

from wsd_distill.evaluation.chance import compare_with_chance
from wsd_distill.evaluation.detections import read_ground_truth
from wsd_distill.evaluation.localization import mean_corloc
from wsd_distill.modeling import WSDDN, MultiLabelClassifier, WSDDNOutput

from .views import Teacher

logger = logging.getLogger(__name__)

HINT = "set dataset.val or trainer.teacher_check.loader.dataset to a split with more images, of several classes"
LOW_CORLOC = 30.0  # percent


class WeakTeacherError(RuntimeError):
    """The teacher's mAP is not above chance."""


class TeacherCheck:
    """Logs the teacher's mAP on a few labelled images and stops the run if it is not above chance.

    With ``boxes`` also its CorLoc, with a warning below ``LOW_CORLOC`` that says what this means for distillation.

    Where the images are too few or too uniform to judge the teacher, a warning is logged instead.

    Args:
        loader: batches of labelled inputs for T-WDet.
        dataset_name: registered dataset of the images, whose annotations CorLoc needs.
        boxes: compute CorLoc.
        warn_only: log a warning instead of raising WeakTeacherError.
    """

    def __init__(
        self, loader: Iterable[list[dict]], *, dataset_name: str = "", boxes: bool = False, warn_only: bool = False
    ):
        self.loader, self.warn_only = loader, warn_only
        self.dataset_name, self.boxes = dataset_name, boxes

    def __call__(self, teacher: Teacher) -> float:
        """Return the teacher's mAP in percent.

        Raises:
            WeakTeacherError: The mAP is not above that of random scores, or the scores are not finite.
            ValueError: The images have no positive label or, with ``boxes``, no annotations.
        """
        rows = self._predict(teacher)
        scores, labels = (np.stack(column) for column in list(zip(*rows))[:2])
        if not (labels == 1).any():
            raise ValueError(f"teacher check: the images have no positive label. For a check, {HINT}.")
        if not np.isfinite(scores).all():
            raise WeakTeacherError(
                "teacher check: the teacher's scores are not finite. The weights in distiller.teacher_checkpoint are "
                "broken: train the teacher again or set another file."
            )
        found = compare_with_chance(scores, labels)
        text = f"the teacher's mAP on {len(labels)} images is {found.mean_ap:.1f} (random scores: {found.chance:.1f})"
        logger.info(f"Teacher check: {text}")
        if not found.is_decisive:
            logger.warning(
                f"Teacher check: {text}. The images are too few or too uniform to judge the teacher: random scores "
                f"reach {found.threshold:.1f}. Training continues without the check. For a check, {HINT}."
            )
        elif found.is_weak:
            text += (
                f"; it must be above {found.threshold:.1f}. Check that the teacher was trained, on these classes, and "
                "with these pixel statistics."
            )
            if not self.warn_only:
                raise WeakTeacherError(f"{text} Set trainer.teacher_check.warn_only=True to continue anyway.")
            logger.warning(f"Teacher check: {text}")
        if self.boxes and not isinstance(teacher, MultiLabelClassifier):
            self._log_corloc(rows)
        return found.mean_ap

    @torch.no_grad()
    def _predict(self, teacher: Teacher) -> list[_Prediction]:
        """Return the predictions for the images of all ranks."""
        rows = []
        for batch in tqdm(self.loader, "teacher check", unit="batch", disable=not comm.is_main_process()):
            top_boxes = [np.empty((0, 4))] * len(batch)
            if isinstance(teacher, MultiLabelClassifier):
                scores = [x["image_scores"] for x in teacher(batch)]
            else:
                output = cast(WSDDN, teacher).compute_outputs(batch)
                scores = list(output.image_scores)
                top_boxes = _top_boxes(output, batch) if self.boxes else top_boxes
            for x, p, boxes in zip(batch, scores, top_boxes):
                rows.append(_Prediction(p.cpu().numpy(), x["labels"].numpy(), x.get("image_id"), boxes))
        return [row for part in comm.all_gather(rows) for row in part]

    def _log_corloc(self, rows: list[_Prediction]) -> None:
        records = {record["image_id"]: record for record in DatasetCatalog.get(self.dataset_name)}
        images = [records[row.image_id] for row in rows]
        truth = read_ground_truth(images, self.dataset_name, len(rows[0].labels))
        found = mean_corloc(np.stack([row.top_boxes for row in rows]), truth)
        logger.info(f"Teacher check: the teacher's CorLoc on {len(rows)} images is {found:.1f}")
        if found < LOW_CORLOC:
            logger.warning(
                f"Teacher check: CorLoc {found:.1f} is below {LOW_CORLOC:g}: the teacher's regions rarely show the "
                "object, so that region weights s' and softened scores of regions carry little; image-level features "
                "of its map may still help (docs/recipes.md, A teacher that localises)."
            )


class _Prediction(NamedTuple):
    """Teacher outputs for one image of K classes."""

    scores: np.ndarray  # (K,)
    labels: np.ndarray  # (K,)
    image_id: int | str | None
    top_boxes: np.ndarray  # (K, 4) best box of each class, in pixels of the original image; (0, 4) without boxes


def _top_boxes(output: WSDDNOutput, batch: list[dict]) -> list[np.ndarray]:
    """Return (K, 4) top-scoring boxes of each image; of equal scores the first is used."""
    found = []
    for boxes, scores, x in zip(output.boxes, output.detection_scores, batch):
        best: Tensor = boxes.tensor[scores.argmax(dim=0)]
        height, width = x["image"].shape[-2:]
        scale = best.new_tensor([x["width"] / width, x["height"] / height]).repeat(2)
        found.append((best * scale).cpu().numpy())
    return found
