"""Stage 2: class-aware distillation (Section 3.2, Eq. 5-11) after stage 1, S-Cls (w/)."""

from ..common.distill import class_aware, distill, trainer
from .base import dataloader, dataset, detector, image_proposals, lr_multiplier, optimizer, proposals, train
from .base import student as model
from .base import teacher as _teacher
from .base import teacher_size as _size

train.update(run="stage2", init_checkpoint="${train.root}/stage1/model_final.pth")
distiller = distill(dataloader, _teacher, _size, **class_aware())
