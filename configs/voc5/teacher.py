"""T-WDet on voc5."""

from ..common.data import use_proposals
from ..common.localization import add_localization_metrics
from ..image_list.teacher import dataloader, lr_multiplier, model, optimizer, train, trainer
from .data import dataloader as _loaders
from .data import dataset, image_proposals, proposals

dataloader.test = _loaders.test
use_proposals(dataloader)
add_localization_metrics(dataloader.test)
