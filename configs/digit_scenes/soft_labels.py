"""SoftLabels's distillation on digit_scenes: fixed temperatures, the same for all classes."""

from ..common.distill import add_teacher_view, trainer
from ..common.distill import soft_labels as distiller
from .data import proposals
from .models import teacher
from .student import dataloader, dataset, lr_multiplier, model, optimizer, train

train.output_dir = "output/digit_scenes/soft_labels"

distiller.teacher = teacher
distiller.teacher_checkpoint = "output/digit_scenes/teacher/model_final.pth"
distiller.use_cache = True
# Chosen on validation scenes: 1 and 1 gave 78.0 mAP, 2 and 2 gave 74.3, the paper's 1 and 5 gave 69.2.
distiller.objectives.loss_soft_labels.t_student = 1.0

add_teacher_view(dataloader, 128)
