"""SoftLabels's distillation on VGG16 (Section 4.2): fixed temperatures, the same for all classes."""

from ..distill import add_teacher_view, trainer
from ..distill import soft_labels as distiller
from ..models.vgg16 import teacher
from .student import dataloader, lr_multiplier, model, optimizer, train

train.output_dir = "output/${dataset.name}/soft_labels_vgg16_${proposals.method}"

distiller.teacher = teacher
distiller.teacher_checkpoint = "output/${dataset.name}/teacher_vgg16_${proposals.method}/model_final.pth"

add_teacher_view(dataloader, 672, num_proposals=500)
