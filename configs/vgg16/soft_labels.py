"""Soft labels with fixed temperatures, "Distillation [12]" of Section 4.2."""

from ..common.distill import distill, soft_labels, trainer
from .base import dataloader, dataset, detector, image_proposals, lr_multiplier, optimizer, proposals, train
from .base import student as model
from .base import teacher as _teacher
from .base import teacher_size as _size

train.run = "soft_labels"
distiller = distill(dataloader, _teacher, _size, **soft_labels())
