"""Distillation on VGG16, stage 1, with the numbers of Section 3.3: RoI-aware features (Eq. 3-4)."""

from ..distill import add_teacher_view, trainer
from ..distill import stage1 as distiller
from ..models.vgg16 import teacher
from ..optim import constant as lr_multiplier
from .student import dataloader, model, optimizer, train

train.output_dir = "output/${dataset.name}/stage1_vgg16_${proposals.method}"
optimizer.lr = 1e-5

distiller.teacher = teacher
distiller.teacher_checkpoint = "output/${dataset.name}/teacher_vgg16_${proposals.method}/model_final.pth"

add_teacher_view(dataloader, 672, num_proposals=500)
dataloader.test = {}  # the classifier has not been trained yet
