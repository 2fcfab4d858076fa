"""Region-consistent transfer from the ImageNet network as it ships, at the teacher's size (docs/regions.md).

Needs neither T-WDet nor proposals: a cheap teacher, and the control of what T-WDet adds.
"""

from ..common.distill import distill, region_consistent, trainer, use_trunk
from .base import dataloader, dataset, detector, image_proposals, lr_multiplier, optimizer, proposals, train
from .base import student as _teacher
from .base import student as model
from .base import teacher_size as _size

train.run = "region_consistent_trunk"
_losses = region_consistent("${train.in_feature}", "${train.in_feature}", adapter="identity")
distiller = distill(dataloader, _teacher, _size, use_cache=True, proposals=None, **_losses)
use_trunk(distiller, trainer)
