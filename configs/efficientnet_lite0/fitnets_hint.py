"""FitNets (Section 4.2), first the hint at stride 8."""

from detectron2.config import LazyCall as L

from wsd_distill.distillation import FitNetsHint, LayerPair

from ..common.distill import distill, trainer
from .base import dataloader, dataset, detector, image_proposals, lr_multiplier, optimizer, proposals, train
from .base import student as model
from .base import teacher as _teacher
from .base import teacher_size as _size

train.update(run="fitnets_hint", epochs=5)
optimizer.lr = 3e-5  # as for stage 1
dataloader.test = {}  # the classifier is not trained in this stage
_after = [f"backbone.net.blocks.{i}" for i in range(3, 7)]  # stride8 is the output of blocks.2
train.frozen = [*_after, "head", "classifier"]
distiller = distill(
    dataloader,
    _teacher,
    _size,
    use_cache=True,
    loss_hint=L(FitNetsHint)(layer=L(LayerPair)(teacher="stride8", student="stride8"), weight=1.0),
)
