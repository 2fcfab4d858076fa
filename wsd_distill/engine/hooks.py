"""Hooks: checkpoints of a run that is resumed, and the paper's learning rate schedule."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from detectron2.engine import HookBase, hooks
from detectron2.evaluation import inference_context
from detectron2.utils import comm
from torch.optim.lr_scheduler import ReduceLROnPlateau

from wsd_distill.losses import image_level_bce

from .distributed import broadcast_buffers

logger = logging.getLogger(__name__)


class ResumableCheckpointer(hooks.PeriodicCheckpointer):
    """Detectron2's hook, which also removes the files written before a resume.

    Without this, each resume would leave one more file. Periodic files (``model_0000499.pth``) of earlier iterations
    count towards ``max_to_keep``; files of later iterations belong to another run and are kept. The hook sets
    ``trainer.last_checkpoint``.
    """

    def before_train(self) -> None:
        super().before_train()
        if self.trainer.start_iter == 0:
            return
        self.trainer.last_checkpoint = self.checkpointer.get_checkpoint_file()
        if self.max_to_keep is None:
            return
        next_name = f"{self.file_prefix}_{self.trainer.start_iter:07}.pth"
        files = sorted(Path(self.checkpointer.save_dir).glob(f"{self.file_prefix}_{'[0-9]' * 7}.pth"))
        self.recent_checkpoints = [str(file) for file in files if file.name < next_name]
        while len(self.recent_checkpoints) > self.max_to_keep:
            self.path_manager.rm(self.recent_checkpoints.pop(0))

    def after_step(self) -> None:
        super().after_step()
        if self._is_due():
            self.trainer.last_checkpoint = self.checkpointer.get_checkpoint_file()

    def save_now(self) -> None:
        """Save a checkpoint of the step just done, unless ``after_step`` has; it counts towards ``max_to_keep``."""
        if not self._is_due() and self.trainer.iter + 1 < self.trainer.max_iter:
            self.checkpointer.save(f"{self.file_prefix}_{self.trainer.iter:07}", iteration=self.trainer.iter)

    def _is_due(self) -> bool:
        return (self.trainer.iter + 1) % self.period == 0


class ReduceLROnPlateauHook(HookBase):
    """Lower all learning rates when the validation loss has not improved (Section 3.3).

    The validation loss is the cross-entropy of ``image_scores`` (Eq. 10) over the images of all ranks, in eval mode;
    for a Distiller it is the student's loss, with ``trainer.ema`` the loss of the averaged weights. It is logged as
    ``val_loss``, the learning rate as ``lr``.

    Args:
        loader: labelled images in batches, as the model takes them.
        period: iterations between two validations.
        factor: multiplies the learning rates.
        patience: number of validations without improvement after which the next one lowers the rates.
        threshold: relative decrease of the best loss that counts as an improvement.
    """

    def __init__(
        self, loader: Iterable, *, period: int, factor: float = 0.1, patience: int = 1, threshold: float = 1e-3
    ):
        if period < 1:
            raise ValueError(f"lr_multiplier.period is {period}: set it to the iterations of an epoch, at least 1")
        self.loader, self.period = loader, period
        self.options: dict[str, Any] = {"factor": factor, "patience": patience, "threshold": threshold}

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
        """Mean over the images of ``loader``, the same on all ranks."""
        model, total, images = self.trainer.eval_model, 0.0, 0
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
        """State of the scheduler without its options, which come from the config, also after a resume."""
        state = self.scheduler.state_dict()
        return {key: state[key] for key in ("best", "num_bad_epochs", "last_epoch")}

    def load_state_dict(self, state_dict: dict) -> None:
        self.scheduler.load_state_dict(state_dict)
