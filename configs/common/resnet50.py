"""T-WDet and S-Cls on Detectron2's ResNet-50, models for a recipe of your own (docs/extending.md).

``c4_teacher``, ``c4_student``: backbone up to res4 (stride 16), res5 is the head. ``dc5_teacher``, ``dc5_student``:
dilated res5 (stride 16), the head is a mean over the map. ``backbone.stages.depth=101`` changes the head with it.
"""

from copy import deepcopy

from detectron2.config import LazyCall as L
from detectron2.modeling.backbone import BasicStem, ResNet

from wsd_distill.modeling import (
    IMAGENET_RGB,
    WSDDN,
    GlobalPoolHead,
    MultiLabelClassifier,
    StageHead,
    make_res5,
    make_stages,
)

_backbone = L(ResNet)(
    stem=L(BasicStem)(in_channels=3, out_channels=64, norm="FrozenBN"),
    stages=L(make_stages)(depth=50, norm="FrozenBN", res5_dilation=1),
    out_features=["res4"],
    freeze_at=0,
)
_res5 = L(StageHead)(stage=L(make_res5)(depth="${...backbone.stages.depth}", norm="FrozenBN"), output_size=2048)
_shared = dict(num_classes="${dataset.num_classes}", class_names="${dataset.class_names}", **IMAGENET_RGB)

c4_teacher = L(WSDDN)(
    backbone=_backbone, in_feature="res4", head=_res5, score_scale="${proposals.score_scale}", **_shared
)
c4_student = L(MultiLabelClassifier)(backbone=_backbone, in_feature="res4", head=_res5, **_shared)

dc5_teacher, dc5_student = deepcopy(c4_teacher), deepcopy(c4_student)
for _model in (dc5_teacher, dc5_student):
    _model.backbone.stages.res5_dilation = 2
    _model.backbone.out_features = ["res5"]
    _model.in_feature = "res5"
    _model.head = L(GlobalPoolHead)(channels=2048, mode="avg")
