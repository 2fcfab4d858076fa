"""Region-consistent transfer from T-WDet, jointly with the labels (docs/regions.md)."""

from ..common.distill import distill, region_consistent, trainer
from .base import dataloader, dataset, detector, image_proposals, lr_multiplier, optimizer, proposals, train
from .base import student as model
from .base import teacher as _teacher
from .base import teacher_size as _size

train.run = "region_consistent"
_losses = region_consistent("conv2", "conv3", adapter="least_squares")
distiller = distill(dataloader, _teacher, _size, use_cache=True, **_losses)
