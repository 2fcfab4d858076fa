"""Attention transfer on VGG16 (Section 4.2): conv3_3, conv4_3 and conv5_3, together with SoftLabels's distillation."""

from ..distill import add_teacher_view, trainer
from ..distill import attention_transfer as distiller
from ..models.vgg16 import teacher
from .student import dataloader, lr_multiplier, model, optimizer, train

train.output_dir = "output/${dataset.name}/attention_transfer_vgg16_${proposals.method}"

distiller.teacher = teacher
distiller.teacher_checkpoint = "output/${dataset.name}/teacher_vgg16_${proposals.method}/model_final.pth"

add_teacher_view(dataloader, 672, num_proposals=500)
