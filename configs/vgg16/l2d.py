"""L2D, multi-label knowledge distillation (Yang et al., ICCV 2023), on the last feature maps."""

from ..common.distill import distill, l2d, trainer
from .base import dataloader, dataset, detector, image_proposals, lr_multiplier, optimizer, proposals, train
from .base import student as model
from .base import teacher as _teacher
from .base import teacher_size as _size

train.run = "l2d"
distiller = distill(dataloader, _teacher, _size, **l2d("conv5_3", "conv5_3"))
