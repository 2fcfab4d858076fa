"""FitNets on VOC 2007, SoftLabels's distillation after the hint."""

from ..common.paper.fitnets import dataloader, distiller, lr_multiplier, model, optimizer, train, trainer
from .data import dataset, epoch, proposals

train.max_iter = 30 * epoch
train.checkpointer.period = epoch
