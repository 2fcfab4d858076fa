"""Detectron2's Faster R-CNN on one feature map, for the proposals of Table 5: the one model here that sees boxes.

Numbers are Detectron2's defaults but for two sorts: those that would keep a CPU busy for nothing on small pictures
(regions, hidden units), and the score below which a box is left out: none, since T-WDet wants many boxes more than sure
ones.
"""

from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.proposal_generator import RPN, StandardRPNHead
from detectron2.modeling.roi_heads import FastRCNNConvFCHead, FastRCNNOutputLayers, StandardROIHeads


def faster_rcnn(backbone, feature, *, anchor_sizes, aspect_ratios, fc_dim, pixels):
    """A Faster R-CNN with a fully connected box head.

    Args:
        feature: (name, channels, stride) of the backbone's map that both stages work on.
        anchor_sizes, aspect_ratios: in pixels of the network's input, and height / width.
        pixels: mean, deviation and channel order that the backbone's weights expect.
    """
    name, channels, stride = feature
    proposal_generator = L(RPN)(
        in_features=[name],
        head=L(StandardRPNHead)(in_channels=channels, num_anchors=len(anchor_sizes) * len(aspect_ratios)),
        anchor_generator=L(DefaultAnchorGenerator)(
            sizes=[anchor_sizes], aspect_ratios=[aspect_ratios], strides=[stride], offset=0.0
        ),
        anchor_matcher=L(Matcher)(thresholds=[0.3, 0.7], labels=[0, -1, 1], allow_low_quality_matches=True),
        box2box_transform=L(Box2BoxTransform)(weights=[1.0, 1.0, 1.0, 1.0]),
        batch_size_per_image=256,
        positive_fraction=0.5,
        pre_nms_topk=(1000, 1000),  # in training and in tests; defaults: (12000, 6000) and (2000, 1000)
        post_nms_topk=(300, 300),
        nms_thresh=0.7,
    )
    roi_heads = L(StandardROIHeads)(
        num_classes="${dataset.num_classes}",
        batch_size_per_image=64,  # default: 512
        positive_fraction=0.25,
        proposal_matcher=L(Matcher)(thresholds=[0.5], labels=[0, 1], allow_low_quality_matches=False),
        box_in_features=[name],
        box_pooler=L(ROIPooler)(output_size=7, scales=[1 / stride], sampling_ratio=0, pooler_type="ROIAlignV2"),
        box_head=L(FastRCNNConvFCHead)(
            input_shape=L(ShapeSpec)(channels=channels, height=7, width=7), conv_dims=[], fc_dims=[fc_dim]
        ),
        box_predictor=L(FastRCNNOutputLayers)(
            input_shape=L(ShapeSpec)(channels=fc_dim),
            box2box_transform=L(Box2BoxTransform)(weights=[10.0, 10.0, 5.0, 5.0]),
            num_classes="${..num_classes}",
            test_score_thresh=0.0,  # default: 0.05
            test_nms_thresh=0.5,
            test_topk_per_image=100,
        ),
    )
    return L(GeneralizedRCNN)(
        backbone=backbone,
        proposal_generator=proposal_generator,
        roi_heads=roi_heads,
        pixel_mean=pixels["pixel_mean"],
        pixel_std=pixels["pixel_std"],
        input_format=pixels["image_format"],
    )
