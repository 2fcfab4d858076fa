"""T-WDet on digit_scenes."""

from ..common.data import read_proposals
from ..common.localization import evaluate_boxes
from ..common.optim import adamw as optimizer
from ..common.optim import cosine as lr_multiplier
from ..common.train import train, trainer
from .data import dataloader, dataset, on_image, proposals
from .models import teacher as model

model.proposer = "${on_image}"

train.output_dir = "output/digit_scenes/teacher"
train.max_iter = 1500  # 8 epochs
train.checkpointer.period = 200
optimizer.lr = 1e-2

dataloader.train.mapper.sides = [128]
read_proposals(dataloader)
evaluate_boxes(dataloader.test)
