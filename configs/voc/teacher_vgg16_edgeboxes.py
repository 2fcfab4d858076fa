"""T-WDet on VOC 2007, with proposals of EdgeBoxes."""

from ..common.localization import add_localization_metrics
from ..common.paper.teacher import dataloader, lr_multiplier, model, optimizer, train, trainer
from .data import dataset, epoch, image_proposals, proposals

train.max_iter = 20 * epoch
train.checkpointer.period = epoch
add_localization_metrics(dataloader.test)
