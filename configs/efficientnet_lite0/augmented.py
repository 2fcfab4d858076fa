"""Settings of the recipes beyond the paper: S-Cls at 128 pixels, random resized crops, 20 epochs (docs/regions.md)."""

from .base import (
    dataloader,
    dataset,
    detector,
    image_proposals,
    lr_multiplier,
    optimizer,
    proposals,
    student,
    teacher,
    train,
    trainer,
)

train.epochs = 20
dataloader.train.mapper.update(sizes=[128], crop_scale=[0.25, 1.0])
teacher_size = 384
