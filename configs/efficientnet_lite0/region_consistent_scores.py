"""Region-consistent transfer with T-WDet's soft labels of the regions that the crop shows (docs/regions.md)."""

from ..common.distill import distill, region_consistent, soft_labels, trainer
from .base import dataloader, dataset, detector, image_proposals, lr_multiplier, optimizer, proposals, train
from .base import student as model
from .base import teacher as _teacher
from .base import teacher_size as _size

train.run = "region_consistent_scores"
_losses = region_consistent("${train.in_feature}", "${train.in_feature}", adapter="identity")
_losses = {**_losses, **soft_labels(t_teacher=1.0, t_student=1.0)}
distiller = distill(dataloader, _teacher, _size, use_cache=True, **_losses)
