"""Distillation on MS-COCO, stage 2, with proposals of EdgeBoxes: S-Cls (w/)."""

from ..common.paper.stage2 import dataloader, distiller, lr_multiplier, model, optimizer, train, trainer
from .data import dataset, epoch, proposals

train.max_iter = 30 * epoch
train.checkpointer.period = epoch
