"""T-WDet and S-Cls on Detectron2's ResNet-50 up to res4 (stride 16), res5 being the head of both.

``backbone.stages.depth=101`` (of ``model`` and of ``distiller.teacher``) changes the head with it.
"""

from detectron2.config import LazyCall as L
from detectron2.modeling.backbone import BasicStem, ResNet

from wsd_distill.modeling import IMAGENET_RGB, WSDDN, MultiLabelClassifier, StageHead, make_res5, make_stages

backbone = L(ResNet)(
    stem=L(BasicStem)(in_channels=3, out_channels=64, norm="FrozenBN"),
    stages=L(make_stages)(depth=50, norm="FrozenBN", res5_dilation=1),
    out_features=["res4"],
    freeze_at=0,
)
head = L(StageHead)(stage=L(make_res5)(depth="${...backbone.stages.depth}", norm="FrozenBN"), output_size=2048)

teacher = L(WSDDN)(
    backbone=backbone,
    in_feature="res4",
    head=head,
    num_classes="${dataset.num_classes}",
    score_scale=1.0,
    score_shift=0.0,
    test_nms_thresh=0.4,
    test_topk_per_image=None,
    **IMAGENET_RGB,
)

student = L(MultiLabelClassifier)(
    backbone=backbone, in_feature="res4", head=head, num_classes="${dataset.num_classes}", **IMAGENET_RGB
)
