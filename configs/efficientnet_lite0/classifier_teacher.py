"""A plain classifier trained like T-WDet, at its size: as a teacher, the control of what the detector adds."""

from .base import dataloader, dataset, detector, image_proposals, lr_multiplier, optimizer, proposals, train, trainer
from .base import student as model
from .base import teacher_size as _size

train.update(run="classifier_teacher", epochs=5)
model.backbone.frozen_to = "${train.frozen_to}"
dataloader.train.mapper.sizes = [_size]
