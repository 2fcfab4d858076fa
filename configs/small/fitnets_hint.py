"""FitNets (Section 4.2), first the hint, from the middle of T-WDet to the middle of S-Cls."""

from detectron2.config import LazyCall as L

from wsd_distill.distillation import FitNetsHint, LayerPair

from ..common.distill import distill, trainer
from .base import dataloader, dataset, detector, image_proposals, lr_multiplier, optimizer, proposals, train
from .base import student as model
from .base import teacher as _teacher
from .base import teacher_size as _size

train.update(run="fitnets_hint", epochs=8)
dataloader.test = {}  # the classifier is not trained in this stage
train.frozen = ["backbone.conv3", "head", "classifier"]
distiller = distill(
    dataloader,
    _teacher,
    _size,
    use_cache=True,
    loss_hint=L(FitNetsHint)(layer=L(LayerPair)(teacher="conv1", student="conv2"), weight=1.0),
)
