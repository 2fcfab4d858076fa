"""Beyond the paper, on digit_scenes: all losses at once, in one stage as long as both."""

from ..common.distill import joint as distiller
from .stage1 import distiller as _stage1
from .stage2 import dataloader, dataset, lr_multiplier, model, optimizer, proposals, teacher, train, trainer

train.output_dir = "output/digit_scenes/joint"
train.init_checkpoint = ""
train.max_iter = 3750  # 20 epochs

distiller.teacher = teacher
distiller.teacher_checkpoint = "output/digit_scenes/teacher/model_final.pth"
distiller.use_cache = True
distiller.objectives.loss_roi = _stage1.objectives.loss_roi
