"""Distillation on VGG16, stage 2, with the numbers of Section 3.3: class-aware softened predictions (Eq. 5-11)."""

from ..distill import add_teacher_view, trainer
from ..distill import stage2 as distiller
from ..models.vgg16 import teacher
from .student import dataloader, lr_multiplier, model, optimizer, train

train.output_dir = "output/${dataset.name}/stage2_vgg16_${proposals.method}"
train.init_checkpoint = "output/${dataset.name}/stage1_vgg16_${proposals.method}/model_final.pth"

distiller.teacher = teacher
distiller.teacher_checkpoint = "output/${dataset.name}/teacher_vgg16_${proposals.method}/model_final.pth"

add_teacher_view(dataloader, 672, num_proposals=500)
