"""T-WDet on voc5."""

from ..common.data import read_proposals
from ..common.localization import evaluate_boxes
from ..image_list.teacher import dataloader, lr_multiplier, model, optimizer, train, trainer
from .data import dataloader as _loaders
from .data import dataset, on_image, proposals

dataloader.test = _loaders.test
read_proposals(dataloader)
evaluate_boxes(dataloader.test)
