"""Attention transfer at strides 8, 16 and 32 with soft labels (Section 4.2); beta as chosen on digit_scenes."""

from detectron2.config import LazyCall as L

from wsd_distill.distillation import AttentionTransfer

from ..common.distill import distill, layer_pairs, soft_labels, trainer
from .base import dataloader, dataset, detector, image_proposals, lr_multiplier, optimizer, proposals, train
from .base import student as model
from .base import teacher as _teacher
from .base import teacher_size as _size

train.run = "attention_transfer"
_layers = [(name, name) for name in ("stride8", "stride16", "stride32")]
_losses = soft_labels(t_teacher=1.0, t_student=1.0)
_losses["loss_attention"] = L(AttentionTransfer)(layers=layer_pairs(*_layers), beta=10.0)
distiller = distill(dataloader, _teacher, _size, use_cache=True, **_losses)
