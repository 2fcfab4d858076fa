"""Beyond the paper, on digit_scenes: stage 2 in which the RoI-aware loss of stage 1 stays."""

from ..common.distill import joint as distiller
from .stage1 import distiller as _stage1
from .stage2 import dataloader, dataset, lr_multiplier, model, optimizer, proposals, teacher, train, trainer

train.output_dir = "output/digit_scenes/joint"

distiller.teacher = teacher
distiller.teacher_checkpoint = "output/digit_scenes/teacher/model_final.pth"
distiller.use_cache = True
distiller.objectives.loss_roi = _stage1.objectives.loss_roi
