"""The learning rate falls where the validation loss does not, as the paper has it (Section 3.3)."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from functools import cached_property

import torch
from detectron2.engine import HookBase
from detectron2.evaluation import inference_context
from detectron2.utils import comm
from torch.optim.lr_scheduler import ReduceLROnPlateau

from wsd_distill.losses import image_level_bce

from .distributed import broadcast_buffers

logger = logging.getLogger(__name__)


class ReduceLROnPlateauHook(HookBase):
    """Divides all learning rates where the validation loss is saturated; goes into a checkpoint with its memory.

    The validation loss is the cross-entropy of ``image_scores`` (Eq. 10) over the images of all ranks, of the model in
    eval mode; a Distiller is its student then. The storage has it as ``val_loss``, beside ``lr``.

    Args:
        loader: labelled images, in batches that the model takes.
        period: iterations between two validations.
        factor: what learning rates are multiplied by.
        patience: so many validations in a row may pass without a better loss; the next one lowers the rates.
        threshold: a loss is better if it is below the best by this share of it.
    """

    def __init__(
        self,
        loader: Iterable[list[dict]],
        *,
        period: int,
        factor: float = 0.1,
        patience: int = 1,
        threshold: float = 1e-3,
    ):
        if period < 1:
            raise ValueError(
                f"the validation loss is wanted after every {period} iterations: set lr_multiplier.period to an epoch's"
            )
        self.loader, self.period = loader, period
        self.options = {"factor": factor, "patience": patience, "threshold": threshold}

    @cached_property
    def scheduler(self) -> ReduceLROnPlateau:
        return ReduceLROnPlateau(self.trainer.optimizer, **self.options)

    def after_step(self) -> None:
        before = self.trainer.optimizer.param_groups[0]["lr"]
        self.trainer.storage.put_scalar("lr", before, smoothing_hint=False)
        if (self.trainer.iter + 1) % self.period:
            return
        loss = self.validation_loss()
        self.trainer.storage.put_scalar("val_loss", loss, smoothing_hint=False)
        self.scheduler.step(loss)
        after = self.trainer.optimizer.param_groups[0]["lr"]
        if after < before:
            best = self.scheduler.best
            logger.info("Learning rate %.3g -> %.3g: validation loss %.4f, best %.4f", before, after, loss, best)

    @torch.no_grad()
    def validation_loss(self) -> float:
        model, total, images = self.trainer.unwrapped_model, 0.0, 0
        broadcast_buffers(model)
        with inference_context(model):
            for batch in self.loader:
                scores = torch.stack([x["image_scores"] for x in model(batch)])
                labels = torch.stack([x["labels"] for x in batch]).to(scores.device)
                total += image_level_bce(scores, labels, eps=1e-7).item() * len(batch)
                images += len(batch)
        parts = comm.all_gather((total, images))
        return sum(t for t, _ in parts) / sum(n for _, n in parts)

    def state_dict(self) -> dict:
        """What was seen so far; the options are the config's, also of a run that is resumed with others."""
        state = self.scheduler.state_dict()
        return {key: state[key] for key in ("best", "num_bad_epochs", "last_epoch")}

    def load_state_dict(self, state_dict: dict) -> None:
        self.scheduler.load_state_dict(state_dict)
