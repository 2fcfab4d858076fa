"""Attention transfer at conv3_3, conv4_3 and conv5_3 with soft labels (Section 4.2)."""

from detectron2.config import LazyCall as L

from wsd_distill.distillation import AttentionTransfer

from ..common.distill import distill, layer_pairs, soft_labels, trainer
from .base import dataloader, dataset, detector, image_proposals, lr_multiplier, optimizer, proposals, train
from .base import student as model
from .base import teacher as _teacher
from .base import teacher_size as _size

train.run = "attention_transfer"
_layers = [(name, name) for name in ("conv3_3", "conv4_3", "conv5_3")]
_attention = L(AttentionTransfer)(layers=layer_pairs(*_layers), beta=1000.0)
distiller = distill(dataloader, _teacher, _size, **soft_labels(), loss_attention=_attention)
