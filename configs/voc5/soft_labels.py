"""SoftLabels's distillation on voc5: fixed temperatures, the same for all classes."""

from ..image_list.soft_labels import dataloader, distiller, lr_multiplier, model, optimizer, train, trainer
from .data import dataloader as _loaders
from .data import dataset, proposals

dataloader.test = _loaders.test
