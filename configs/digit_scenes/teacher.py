"""T-WDet on digit_scenes."""

from ..common.data import use_proposals
from ..common.localization import add_localization_metrics
from ..common.optim import adamw as optimizer
from ..common.optim import cosine as lr_multiplier
from ..common.train import train, trainer
from .data import dataloader, dataset, image_proposals, proposals
from .models import teacher as model

model.proposer = "${image_proposals}"

train.output_dir = "output/digit_scenes/teacher"
train.max_iter = 1500  # 8 epochs
train.checkpointer.period = 200
optimizer.lr = 1e-2

dataloader.train.mapper.sides = [128]
use_proposals(dataloader)
add_localization_metrics(dataloader.test)
