"""FitNets on voc5, the hint."""

from ..image_list.fitnets_hint import dataloader, distiller, lr_multiplier, model, optimizer, train, trainer
from .data import dataset, proposals
