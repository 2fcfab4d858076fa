"""Stage 1: RoI-aware transfer into the convolutions of S-Cls (Section 3.2, Eq. 3-4)."""

from ..common.distill import distill, roi_aware, trainer
from ..common.train import constant as lr_multiplier
from .base import dataloader, dataset, detector, image_proposals, optimizer, proposals, train
from .base import student as model
from .base import teacher as _teacher
from .base import teacher_size as _size

train.update(run="stage1", epochs=100)
optimizer.lr = 1e-5
dataloader.test = {}  # the classifier is not trained in this stage
train.frozen = ["head", "classifier"]
distiller = distill(dataloader, _teacher, _size, **roi_aware(("conv5_3", "conv5_3")))
