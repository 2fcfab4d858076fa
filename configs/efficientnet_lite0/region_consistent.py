"""Region-consistent transfer from T-WDet of augmented_teacher.py (docs/regions.md)."""

from detectron2.config import LazyCall as L

from wsd_distill.distillation import HardLabels, RegionConsistent

from ..common.distill import distill, layer_pairs, trainer
from .augmented import dataloader, dataset, detector, image_proposals, lr_multiplier, optimizer, proposals, train
from .augmented import student as model
from .augmented import teacher as _teacher
from .augmented import teacher_size as _size

train.run = "region_consistent"
distiller = distill(
    dataloader,
    _teacher,
    _size,
    use_cache=True,
    loss_hard=L(HardLabels)(),
    loss_regions=L(RegionConsistent)(
        layer=layer_pairs(("stride32", "stride32"))[0],
        regions="view",
        adapter="identity",  # Psi: teacher and student are one network
        weight=10.0,
    ),
)
distiller.teacher_checkpoint = "${train.root}/augmented_teacher/model_final.pth"
