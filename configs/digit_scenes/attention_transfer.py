"""Attention transfer on digit_scenes, together with SoftLabels's distillation."""

from ..common.distill import add_teacher_view, layer_pair, trainer
from ..common.distill import attention_transfer as distiller
from .data import proposals
from .models import teacher
from .student import dataloader, dataset, lr_multiplier, model, optimizer, train

train.output_dir = "output/digit_scenes/attention_transfer"

distiller.teacher = teacher
distiller.teacher_checkpoint = "output/digit_scenes/teacher/model_final.pth"
distiller.use_cache = True
distiller.objectives.loss_soft_labels.t_student = 1.0
# Chosen on validation scenes: 10 gave 77.7 mAP, 100 gave 74.4, 1000 gave 72.2.
distiller.objectives.loss_attention.beta = 10.0
distiller.objectives.loss_attention.layers = [
    layer_pair("conv1", "conv2"),
    layer_pair("conv2", "conv3"),
]

add_teacher_view(dataloader, 128)
