"""FitNets on MS-COCO, the hint, of a T-WDet on proposals of EdgeBoxes."""

from ..common.paper.fitnets_hint import dataloader, distiller, lr_multiplier, model, optimizer, train, trainer
from .data import dataset, epoch, proposals

train.max_iter = 100 * epoch
train.checkpointer.period = epoch
