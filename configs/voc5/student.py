"""S-Cls on voc5 without distillation, S-Cls (w/o)."""

from ..image_list.student import dataloader, lr_multiplier, model, optimizer, train, trainer
from .data import dataloader as _loaders
from .data import dataset

dataloader.test = _loaders.test
