"""FitNets on voc5, SoftLabels's distillation after the hint."""

from ..image_list.fitnets import dataloader, distiller, lr_multiplier, model, optimizer, train, trainer
from .data import dataloader as _loaders
from .data import dataset, proposals

dataloader.test = _loaders.test
