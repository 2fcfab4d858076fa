"""SoftLabels's distillation on NUS-WIDE, with a T-WDet on proposals of EdgeBoxes."""

from ..common.paper.soft_labels import dataloader, distiller, lr_multiplier, model, optimizer, train, trainer
from .data import dataset, epoch, proposals

train.max_iter = 30 * epoch
train.checkpointer.period = epoch
distiller.objectives.loss_soft_labels.update(t_teacher=2.0, t_student=5.0)  # Section 4.2
