"""Detectron2's Faster R-CNN on one feature map, the only model here that is trained with boxes (Table 5).

Detectron2's defaults, with two exceptions: fewer regions and hidden units, because the defaults are slow on a CPU, and
no minimum score, because T-WDet needs many boxes, including uncertain ones.
"""

from detectron2.config import LazyCall as L
from detectron2.data import DatasetMapper
from detectron2.data import transforms as T
from detectron2.evaluation import COCOEvaluator
from detectron2.layers import ShapeSpec
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.proposal_generator import RPN, StandardRPNHead
from detectron2.modeling.roi_heads import FastRCNNConvFCHead, FastRCNNOutputLayers, StandardROIHeads

from wsd_distill.data.build import build_test_loader, build_train_loader
from wsd_distill.engine import micro_batch


def faster_rcnn(backbone, feature, *, anchor_sizes, aspect_ratios, fc_dim, pixels):
    """Faster R-CNN with a fully connected box head.

    Args:
        feature: (name, channels, stride) of the backbone's feature map.
        anchor_sizes: in pixels of the network's input. aspect_ratios: height / width.
        pixels: pixel mean, standard deviation and channel order that the backbone's weights expect.
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
        pre_nms_topk=(1000, 1000),  # training and test; defaults: (12000, 6000) and (2000, 1000)
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


def detection_loaders(size):
    """Loaders with boxes, and COCO's evaluator. Images are resized to squares of ``size`` pixels, as for T-WDet."""
    resize, flip = L(T.Resize)(shape=[size, size]), L(T.RandomFlip)(prob="${dataset.flip_prob}")
    image_format = "${model.input_format}"
    return dict(
        train=L(build_train_loader)(
            dataset="${dataset.train}",
            mapper=L(DatasetMapper)(is_train=True, augmentations=[resize, flip], image_format=image_format),
            total_batch_size=L(micro_batch)(batch_size="${train.batch_size}", accumulate="${trainer.accumulate}"),
            num_workers=0,
            seed="${train.seed}",
            start_batch=0,  # set by a resume
        ),
        test=dict(
            test=dict(
                loader=L(build_test_loader)(
                    dataset="${dataset.test}",
                    mapper=L(DatasetMapper)(is_train=False, augmentations=[resize], image_format=image_format),
                    batch_size=8,
                ),
                evaluator=L(COCOEvaluator)(
                    dataset_name="${dataset.test}",
                    tasks=["bbox"],
                    output_dir="${train.output_dir}/inference/test",
                    use_fast_impl=False,  # the fast one needs Detectron2's C++ extension
                ),
            )
        ),
    )
