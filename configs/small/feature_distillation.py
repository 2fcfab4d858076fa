"""Feature distillation as in timm: pooled features of the last feature maps."""

from ..common.distill import distill, feature_distillation, trainer
from .base import dataloader, dataset, detector, image_proposals, lr_multiplier, optimizer, proposals, train
from .base import student as model
from .base import teacher as _teacher
from .base import teacher_size as _size

train.run = "feature_distillation"
distiller = distill(dataloader, _teacher, _size, use_cache=True, **feature_distillation("conv2", "conv3"))
