"""Region-consistent transfer from the ImageNet network as it ships, at the teacher's size: a control, and cheap."""

from detectron2.config import LazyCall as L

from wsd_distill.distillation import HardLabels, RegionConsistent

from ..common.distill import distill, layer_pairs, trainer
from .augmented import dataloader, dataset, detector, image_proposals, lr_multiplier, optimizer, proposals, train
from .augmented import student as _teacher
from .augmented import student as model
from .augmented import teacher_size as _size

train.run = "region_consistent_trunk"
distiller = distill(
    dataloader,
    _teacher,
    _size,
    use_cache=True,
    proposals=None,
    loss_hard=L(HardLabels)(),
    loss_regions=L(RegionConsistent)(
        layer=layer_pairs(("stride32", "stride32"))[0],
        regions="view",
        adapter="identity",  # Psi: teacher and student are one network
        weight=10.0,
    ),
)
distiller.teacher_checkpoint = "pretrained://${train.backbone}"
distiller.cache.folder = "${train.root}/trunk_cache"
trainer.teacher_check = None  # its classifier is not trained
