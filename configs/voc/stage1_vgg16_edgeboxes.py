"""Distillation on VOC 2007, stage 1, with proposals of EdgeBoxes."""

from ..common.paper.stage1 import dataloader, distiller, lr_multiplier, model, optimizer, train, trainer
from .data import dataset, epoch, proposals

train.max_iter = 100 * epoch
train.checkpointer.period = epoch
