"""Attention transfer on VGG16 (Section 4.2): conv3_3, conv4_3 and conv5_3, together with Hinton's distillation."""

from ..distill import attention_transfer as distiller
from ..distill import show_teacher, trainer
from ..models.vgg16 import teacher
from .student import dataloader, lr_multiplier, model, optimizer, train

train.output_dir = "output/${dataset.name}/attention_transfer_vgg16_${proposals.method}"

distiller.teacher = teacher
distiller.teacher_checkpoint = "output/${dataset.name}/teacher_vgg16_${proposals.method}/model_final.pth"

show_teacher(dataloader, 672, num_proposals=500)
