"""The batch of a step: portions that fit, and a schedule that follows its size."""

from __future__ import annotations

from detectron2.config import instantiate
from omegaconf import DictConfig


def micro_batch(batch_size: int, accumulate: int) -> int:
    """Images of a micro-batch over all ranks, for configs: one override, ``trainer.accumulate``, splits a batch.

    Raises:
        ValueError: the batch cannot be split into so many equal portions.
    """
    if batch_size % accumulate:
        raise ValueError(
            f"{batch_size} images cannot be split into {accumulate} equal portions: set trainer.accumulate to a divisor"
        )
    return batch_size // accumulate


def scale_to_batch(cfg: DictConfig) -> None:
    """Linear scaling rule, where ``train.reference_batch`` is not 0: fit a schedule for such batches to the real one.

    With batches k times as large the learning rate is k times as large, and ``max_iter``, ``eval_period`` and the
    checkpoints' period are divided by k, so that the epochs remain; the config that is saved with the run has the new
    ones. The real batch is ``dataloader.train.total_batch_size`` times ``trainer.accumulate``, whatever the number of
    ranks.
    """
    reference = cfg.train.reference_batch
    if reference == 0:
        return
    batch = instantiate(cfg.dataloader.train.total_batch_size) * cfg.trainer.accumulate
    cfg.train.reference_batch = batch  # what is saved with the run is a schedule for this batch
    k = batch / reference
    cfg.optimizer.lr *= k
    for node, key in ((cfg.train, "max_iter"), (cfg.train, "eval_period"), (cfg.train.checkpointer, "period")):
        node[key] = round(node[key] / k)
