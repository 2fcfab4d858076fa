"""SoftLabels's distillation on VOC 2007, with a T-WDet on proposals of EdgeBoxes."""

from ..common.paper.soft_labels import dataloader, distiller, lr_multiplier, model, optimizer, train, trainer
from .data import dataset, epoch, proposals

train.max_iter = 30 * epoch
train.checkpointer.period = epoch
