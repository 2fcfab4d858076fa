"""S-Cls on NUS-WIDE without distillation, S-Cls (w/o)."""

from ..common.paper.student import dataloader, lr_multiplier, model, optimizer, train, trainer
from .data import dataset, epoch

train.max_iter = 30 * epoch
train.checkpointer.period = epoch
