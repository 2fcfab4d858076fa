"""Distillation on VGG16, stage 1, with the numbers of Section 3.3: RoI-aware features (Eq. 3-4)."""

from ..distill import stage1 as distiller
from ..distill import trainer
from ..models.vgg16 import teacher
from ..optim import constant as lr_multiplier
from .student import dataloader, model, optimizer, train

train.output_dir = "output/${dataset.name}/stage1_vgg16_${proposals.method}"
optimizer.lr = 1e-5

distiller.teacher = teacher
distiller.teacher_checkpoint = "output/${dataset.name}/teacher_vgg16_${proposals.method}/model_final.pth"

dataloader.train.mapper.teacher_sides = [672]
dataloader.train.mapper.num_proposals = 500
dataloader.train.proposals = "${proposals.train}"
dataloader.test = {}  # the classifier has not been trained yet
