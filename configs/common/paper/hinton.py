"""Hinton's distillation on VGG16 (Section 4.2): fixed temperatures, the same for all classes."""

from ..distill import hinton as distiller
from ..distill import show_teacher, trainer
from ..models.vgg16 import teacher
from .student import dataloader, lr_multiplier, model, optimizer, train

train.output_dir = "output/${dataset.name}/hinton_vgg16_${proposals.method}"

distiller.teacher = teacher
distiller.teacher_checkpoint = "output/${dataset.name}/teacher_vgg16_${proposals.method}/model_final.pth"

show_teacher(dataloader, 672, num_proposals=500)
