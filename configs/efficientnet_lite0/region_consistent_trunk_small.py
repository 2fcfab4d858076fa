"""Control of ``region_consistent_trunk``: the same network at the student's own input size, coarser than its crops."""

from .region_consistent_trunk import (
    dataloader,
    dataset,
    detector,
    distiller,
    image_proposals,
    lr_multiplier,
    model,
    optimizer,
    proposals,
    train,
    trainer,
)

train.run = "region_consistent_trunk_small"
dataloader.train.mapper.teacher_sizes = ["${train.student_size}"]
distiller.cache.folder = "${train.root}/trunk_small_cache"
