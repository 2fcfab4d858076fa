"""S-Cls on digit_scenes without distillation, S-Cls (w/o)."""

from ..common.optim import adamw as optimizer
from ..common.optim import cosine as lr_multiplier
from ..common.train import train, trainer
from .data import dataloader, dataset
from .models import student as model

train.output_dir = "output/digit_scenes/student"
train.max_iter = 2250  # 12 epochs
optimizer.lr = 1e-2

dataloader.train.mapper.sides = [40]
