"""T-WDet on MS-COCO, with proposals of EdgeBoxes."""

from ..common.localization import evaluate_boxes
from ..common.paper.teacher import dataloader, lr_multiplier, model, optimizer, train, trainer
from .data import dataset, epoch, on_image, proposals

train.max_iter = 20 * epoch
train.checkpointer.period = epoch
evaluate_boxes(dataloader.test)
