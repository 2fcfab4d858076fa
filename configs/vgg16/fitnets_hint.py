"""FitNets (Section 4.2), first the hint at conv3_3. The paper gives it no schedule: the same as for stage 1."""

from detectron2.config import LazyCall as L

from wsd_distill.distillation import FitNetsHint, LayerPair
from wsd_distill.modeling.backbones.vgg import conv_names

from ..common.distill import distill, trainer
from ..common.train import constant as lr_multiplier
from .base import dataloader, dataset, detector, image_proposals, optimizer, proposals, train
from .base import student as model
from .base import teacher as _teacher
from .base import teacher_size as _size

train.update(run="fitnets_hint", epochs=100)
optimizer.lr = 1e-5
dataloader.test = {}  # the classifier is not trained in this stage
_after = [f"backbone.{name}" for block in (4, 5) for name in conv_names(block)]
train.frozen = [*_after, "head", "classifier"]
distiller = distill(
    dataloader,
    _teacher,
    _size,
    loss_hint=L(FitNetsHint)(layer=L(LayerPair)(teacher="conv3_3", student="conv3_3"), weight=1.0),
)
