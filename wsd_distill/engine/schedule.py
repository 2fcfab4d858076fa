"""Length of a training and size of its micro-batches."""

from __future__ import annotations

from detectron2.config import instantiate
from omegaconf import DictConfig

from wsd_distill.data.build import get_dataset_dicts


def micro_batch(batch_size: int, accumulate: int) -> int:
    """Compute the images of a micro-batch over all ranks, for configs.

    Raises:
        ValueError: ``accumulate`` does not divide the batch.
    """
    if batch_size % accumulate:
        text = f"{batch_size} images cannot be split into {accumulate} equal micro-batches"
        raise ValueError(f"{text}: set trainer.accumulate to a divisor")
    return batch_size // accumulate


def resolve_schedule(cfg: DictConfig) -> None:
    """Set ``train.max_iter`` and the checkpoints' period where they are None, from ``train.epochs``.

    A batch has ``dataloader.train.total_batch_size * trainer.accumulate`` images; both results are rounded.
    """
    train = cfg.train
    if train.max_iter is not None and train.checkpointer.period is not None:
        return
    batch = instantiate(cfg.dataloader.train.total_batch_size) * cfg.trainer.accumulate
    epoch = len(get_dataset_dicts(cfg.dataset.train)) / batch
    if train.max_iter is None:
        train.max_iter = max(1, round(train.epochs * epoch))
    if train.checkpointer.period is None:
        train.checkpointer.period = max(1, round(epoch))
