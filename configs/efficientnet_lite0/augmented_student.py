"""The strongest plain S-Cls: random resized crops (docs/regions.md)."""

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

train.run = "augmented_student"
