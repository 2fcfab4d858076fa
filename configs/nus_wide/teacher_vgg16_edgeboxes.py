"""T-WDet on NUS-WIDE, with proposals of EdgeBoxes."""

from ..common.paper.teacher import dataloader, lr_multiplier, model, optimizer, train, trainer
from .data import dataset, epoch, image_proposals, proposals

train.max_iter = 20 * epoch
train.checkpointer.period = epoch
