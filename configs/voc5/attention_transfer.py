"""Attention transfer on voc5, together with SoftLabels's distillation."""

from ..image_list.attention_transfer import dataloader, distiller, lr_multiplier, model, optimizer, train, trainer
from .data import dataloader as _loaders
from .data import dataset, proposals

dataloader.test = _loaders.test
