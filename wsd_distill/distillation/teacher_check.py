"""Sanity check of the teacher before training."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import numpy as np
import torch
from detectron2.utils import comm

from wsd_distill.evaluation.metrics import mean_average_precision
from wsd_distill.modeling import WSDDN

logger = logging.getLogger(__name__)

HINT = "set dataset.val or trainer.teacher_check.loader.dataset to a split with more images, of several classes"


class WeakTeacherError(RuntimeError):
    """The teacher's mAP is not above chance."""


class TeacherCheck:
    """Logs the teacher's mAP on a few labelled images and stops the run if it is not above chance.

    The threshold is the mean mAP of 100 draws of random scores on the same labels plus three standard deviations. If
    it reaches 100, the images are too few or too uniform to judge the teacher, and a warning is logged instead.

    Args:
        loader: batches of labelled inputs for T-WDet.
        warn_only: log a warning instead of raising WeakTeacherError.
    """

    def __init__(self, loader: Iterable[list[dict]], *, warn_only: bool = False):
        self.loader, self.warn_only = loader, warn_only

    def __call__(self, teacher: WSDDN) -> float:
        """Return the teacher's mAP in percent.

        Raises:
            WeakTeacherError: The mAP is not above the threshold, or the scores are not finite.
            ValueError: The images have no positive label.
        """
        scores, labels = self._predict(teacher)
        if not (labels == 1).any():
            raise ValueError(f"teacher check: the images have no positive label. For a check, {HINT}.")
        if not np.isfinite(scores).all():
            raise WeakTeacherError(
                "teacher check: the teacher's scores are not finite. The weights in distiller.teacher_checkpoint are "
                "broken: train the teacher again or set another file."
            )
        teacher_map = 100 * mean_average_precision(scores, labels)
        rng = np.random.default_rng(0)
        random = [100 * mean_average_precision(rng.random(scores.shape), labels) for _ in range(100)]
        chance, threshold = np.mean(random), np.mean(random) + 3 * np.std(random)
        text = f"the teacher's mAP on {len(labels)} images is {teacher_map:.1f} (random scores: {chance:.1f})"
        logger.info(f"Teacher check: {text}")
        if threshold > 100 - 1e-6:
            logger.warning(
                f"Teacher check: {text}. The images are too few or too uniform to judge the teacher: random scores "
                f"reach 100. Training continues without the check. For a check, {HINT}."
            )
        elif teacher_map <= threshold:
            text += (
                f"; it must be above {threshold:.1f}. Check that the teacher was trained, on these classes, and with "
                "these pixel statistics."
            )
            if not self.warn_only:
                raise WeakTeacherError(f"{text} Set trainer.teacher_check.warn_only=True to continue anyway.")
            logger.warning(f"Teacher check: {text}")
        return teacher_map

    @torch.no_grad()
    def _predict(self, teacher: WSDDN) -> tuple[np.ndarray, np.ndarray]:
        """Return (M, K) scores and labels of the images of all ranks."""
        scores, labels = [], []
        for batch in self.loader:
            scores += [p.cpu().numpy() for p in teacher.compute_outputs(batch).image_scores]
            labels += [x["labels"].numpy() for x in batch]
        gathered = comm.all_gather((scores, labels))
        all_scores, all_labels = (np.stack([row for part in gathered for row in part[i]]) for i in range(2))
        return all_scores, all_labels
