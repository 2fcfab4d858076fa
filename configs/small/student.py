"""S-Cls without distillation."""

from .base import dataloader, dataset, detector, image_proposals, lr_multiplier, optimizer, proposals, train, trainer
from .base import student as model

train.run = "student"
