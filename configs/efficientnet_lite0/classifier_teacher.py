"""A plain classifier at the teacher's size: the control of what T-WDet is worth beyond its size and training."""

from .augmented import (
    dataloader,
    dataset,
    detector,
    image_proposals,
    lr_multiplier,
    optimizer,
    proposals,
    train,
    trainer,
)
from .augmented import student as model
from .augmented import teacher_size as _size

train.update(run="classifier_teacher", epochs=5)
train.frozen = ["backbone.net.conv_stem", *(f"backbone.net.blocks.{i}" for i in range(5))]
dataloader.train.mapper.sizes = [_size]
