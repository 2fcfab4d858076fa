"""Is this teacher worth learning from? Asked before the first step, for it costs seconds and training costs days."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import numpy as np
import torch
from detectron2.utils import comm

from wsd_distill.evaluation.metrics import mean_average_precision
from wsd_distill.modeling import WSDDN

logger = logging.getLogger(__name__)

HINT = "name a split with more images, of several labels, in dataset.val or trainer.gate.loader.dataset"


class WeakTeacherError(RuntimeError):
    """The teacher ranks images no better than chance does."""


class TeacherCheck:
    """Prints the teacher's mAP on a few labelled images and stops the run where it is no better than chance.

    Chance is the mAP of random scores on the same labels: its mean over 100 draws, plus three standard deviations.
    Where that is 100 or more, the images are too few or all of one label: they cannot tell, and a warning says so.

    Args:
        loader: labelled images, as dicts that T-WDet takes.
        warn_only: only warn.
    """

    def __init__(self, loader: Iterable[list[dict]], *, warn_only: bool = False):
        self.loader, self.warn_only = loader, warn_only

    def __call__(self, teacher: WSDDN) -> float:
        """Return the teacher's mAP in percent.

        Raises:
            WeakTeacherError: it is no better than chance, or its scores are no numbers.
            ValueError: the images hold no positive label.
        """
        scores, labels = self._predict(teacher)
        if not (labels == 1).any():
            raise ValueError(f"the images that the teacher is checked on have no label: {HINT}")
        if not np.isfinite(scores).all():
            raise WeakTeacherError(
                "the teacher's scores are not finite: the weights in distiller.teacher_checkpoint are broken, train it "
                "again or name another file"
            )
        found = 100 * mean_average_precision(scores, labels)
        rng = np.random.default_rng(0)
        random = [100 * mean_average_precision(rng.random(scores.shape), labels) for _ in range(100)]
        chance, bar = np.mean(random), np.mean(random) + 3 * np.std(random)
        text = f"the teacher's mAP on {len(labels)} images is {found:.1f}, that of random scores {chance:.1f}"
        logger.info("Teacher gate: %s", text)
        if bar > 100 - 1e-6:
            logger.warning(
                "Teacher gate: %s. Chance reaches 100 on these images: they cannot tell a good teacher from a bad one. "
                "Training goes on unchecked. For a check %s",
                text,
                HINT,
            )
        elif found <= bar:
            text += f" (it has to be above {bar:.1f}). Was it trained, on these classes, with these pixel statistics?"
            if not self.warn_only:
                raise WeakTeacherError(f"{text} trainer.gate.warn_only=True goes on all the same.")
            logger.warning(text)
        return found

    @torch.no_grad()
    def _predict(self, teacher: WSDDN) -> tuple[np.ndarray, np.ndarray]:
        """(M, K) scores and labels of the images of all ranks."""
        scores, labels = [], []
        for batch in self.loader:
            scores += [p.cpu().numpy() for p in teacher.compute_outputs(batch).image_scores]
            labels += [x["labels"].numpy() for x in batch]
        gathered = comm.all_gather((scores, labels))
        return tuple(np.stack([row for part in gathered for row in part[i]]) for i in range(2))
