"""Distillation on voc5, stage 1: RoI-aware features (Eq. 3-4) into the student's convolutions."""

from ..image_list.stage1 import dataloader, distiller, lr_multiplier, model, optimizer, train, trainer
from .data import dataset, proposals
