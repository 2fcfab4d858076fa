"""Distillation on your own images, stage 2: class-aware softened predictions (Eq. 5-11), S-Cls (w/)."""

from ..common.distill import add_teacher_view, trainer
from ..common.distill import stage2 as distiller
from .data import proposals
from .models import teacher
from .student import dataloader, dataset, lr_multiplier, model, optimizer, train

train.output_dir = "output/${dataset.name}/stage2"
train.init_checkpoint = "output/${dataset.name}/stage1/model_final.pth"

distiller.teacher = teacher
distiller.teacher_checkpoint = "output/${dataset.name}/teacher/model_final.pth"
distiller.use_cache = True

add_teacher_view(dataloader, 224, num_proposals=100)
