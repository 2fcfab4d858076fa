"""Distillation on voc5, stage 2: class-aware softened predictions (Eq. 5-11), S-Cls (w/)."""

from ..image_list.stage2 import dataloader, distiller, lr_multiplier, model, optimizer, train, trainer
from .data import dataloader as _loaders
from .data import dataset, proposals

dataloader.test = _loaders.test
