"""S-Cls on your own images without distillation, S-Cls (w/o)."""

from ..common.optim import adamw as optimizer
from ..common.optim import cosine as lr_multiplier
from ..common.train import train, trainer
from .data import dataloader, dataset
from .models import init_checkpoint
from .models import student as model

train.output_dir = "output/${dataset.name}/student"
train.init_checkpoint = init_checkpoint
train.max_iter = 750  # 10 epochs of 1,200 images / 16
optimizer.lr = 3e-4

dataloader.train.total_batch_size = 16
dataloader.train.mapper.sides = [96]
