"""Stage 1: RoI-aware transfer into the convolutions of S-Cls (Eq. 3-4)."""

from ..common.distill import distill, roi_aware, trainer
from .base import dataloader, dataset, detector, image_proposals, lr_multiplier, optimizer, proposals, train
from .base import student as model
from .base import teacher as _teacher
from .base import teacher_size as _size

train.update(run="stage1", epochs=5)
optimizer.lr = 3e-5  # a tenth of stage 2's, as in the paper
dataloader.test = {}  # the classifier is not trained in this stage
_loss = roi_aware(("${train.in_feature}", "${train.in_feature}"), pooler_size="${train.pooler_size}")
train.frozen = ["head", "classifier"]
distiller = distill(dataloader, _teacher, _size, use_cache=True, **_loss)
