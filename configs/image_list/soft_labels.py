"""SoftLabels's distillation on your own images: fixed temperatures, the same for all classes."""

from ..common.distill import add_teacher_view, trainer
from ..common.distill import soft_labels as distiller
from .data import proposals
from .models import teacher
from .student import dataloader, dataset, lr_multiplier, model, optimizer, train

train.output_dir = "output/${dataset.name}/soft_labels"

distiller.teacher = teacher
distiller.teacher_checkpoint = "output/${dataset.name}/teacher/model_final.pth"
distiller.use_cache = True
distiller.objectives.loss_soft_labels.t_student = 1.0  # as on digit_scenes

add_teacher_view(dataloader, 224, num_proposals=100)
