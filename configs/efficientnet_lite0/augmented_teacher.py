"""T-WDet at 384 pixels with crops; the early blocks keep their ImageNet weights."""

from ..common.data import use_proposals
from .augmented import (
    dataloader,
    dataset,
    detector,
    image_proposals,
    lr_multiplier,
    optimizer,
    proposals,
    train,
    trainer,
)
from .augmented import teacher as model
from .augmented import teacher_size as _size

train.update(run="augmented_teacher", epochs=5)
train.frozen = ["backbone.net.conv_stem", *(f"backbone.net.blocks.{i}" for i in range(5))]
model.proposer = "${image_proposals}"

use_proposals(dataloader)
dataloader.train.mapper.sizes = [_size]
