"""Hinton's distillation on your own images: fixed temperatures, the same for all classes."""

from ..common.distill import hinton as distiller
from ..common.distill import show_teacher, trainer
from .data import proposals
from .models import teacher
from .student import dataloader, dataset, lr_multiplier, model, optimizer, train

train.output_dir = "output/${dataset.name}/hinton"

distiller.teacher = teacher
distiller.teacher_checkpoint = "output/${dataset.name}/teacher/model_final.pth"
distiller.use_cache = True
distiller.objectives.loss_hinton.t_student = 1.0  # as on digit_scenes

show_teacher(dataloader, 224, num_proposals=100)
