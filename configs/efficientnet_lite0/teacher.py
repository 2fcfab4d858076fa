"""T-WDet."""

from ..common.data import use_proposals
from .base import dataloader, dataset, detector, image_proposals, lr_multiplier, optimizer, proposals, train, trainer
from .base import teacher as model
from .base import teacher_size as _size

train.update(run="teacher", epochs=5)
model.backbone.frozen_to = "${train.frozen_to}"  # their backward pass is the dearest
model.proposer = "${image_proposals}"

use_proposals(dataloader)
dataloader.train.mapper.sizes = [_size]
