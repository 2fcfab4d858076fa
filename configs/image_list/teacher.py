"""T-WDet on your own images."""

from ..common.data import use_proposals
from ..common.optim import adamw as optimizer
from ..common.optim import cosine as lr_multiplier
from ..common.train import train, trainer
from .data import dataloader, dataset, image_proposals, proposals
from .models import init_checkpoint
from .models import teacher as model

model.proposer = "${image_proposals}"

train.output_dir = "output/${dataset.name}/teacher"
train.init_checkpoint = init_checkpoint
train.max_iter = 375  # 5 epochs of 1,200 images / 16
optimizer.lr = 3e-4

dataloader.train.total_batch_size = 16
dataloader.train.mapper.sides = [224]
dataloader.train.mapper.num_proposals = 100
use_proposals(dataloader)
