"""Attention transfer on your own images, together with SoftLabels's distillation."""

from ..common.distill import add_teacher_view, layer_pair, trainer
from ..common.distill import attention_transfer as distiller
from .data import proposals
from .models import teacher
from .student import dataloader, dataset, lr_multiplier, model, optimizer, train

train.output_dir = "output/${dataset.name}/attention_transfer"

for _model in (teacher, model):
    _model.backbone.out_features = ["stride8", "stride16", "stride32"]  # the same weights, one more map
distiller.teacher = teacher
distiller.teacher_checkpoint = "output/${dataset.name}/teacher/model_final.pth"
distiller.use_cache = True
distiller.objectives.loss_soft_labels.t_student = 1.0  # as on digit_scenes
distiller.objectives.loss_attention.beta = 10.0  # as on digit_scenes
distiller.objectives.loss_attention.layers = [layer_pair(name, name) for name in ("stride8", "stride16", "stride32")]

add_teacher_view(dataloader, 224, num_proposals=100)
