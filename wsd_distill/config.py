"""Config keys of this project for Detectron2's YAML configs."""

from __future__ import annotations

from dataclasses import asdict

from detectron2.config import CfgNode

from wsd_distill.proposals.generators.edge_boxes import EdgeBoxes

from . import modeling  # noqa: F401  (registers the models and backbones)


def add_wsd_distill_config(cfg: CfgNode) -> None:
    """Add the keys of WSDDN, MultiLabelClassifier and their backbones.

    RoI pooling is set in ``cfg.MODEL.ROI_BOX_HEAD``, the number of detections in ``cfg.TEST.DETECTIONS_PER_IMAGE``.
    ``configs/yaml`` has a YAML file for each model.
    """
    cfg.MODEL.IMAGE_LEVEL = CfgNode({"NUM_CLASSES": 80, "IN_FEATURE": "res4", "HEAD": "fc"})
    cfg.MODEL.IMAGE_LEVEL.update({"FC_DIMS": [4096, 4096], "DROPOUT": 0.5, "BATCH_NORM": False})
    cfg.MODEL.IMAGE_LEVEL.NEW_LAYERS = []  # submodules that MODEL.WEIGHTS may lack, besides the classification layers
    cfg.MODEL.WSDDN = CfgNode({"SCORE_SCALE": 1.0, "SCORE_SHIFT": 0.0, "NMS_THRESH_TEST": 0.4})
    cfg.MODEL.WSDDN.NUM_REFINEMENTS = 0  # OICR-style refinement branches: 3 in OICR
    # PROPOSER: computes missing proposals at test time, e.g. wsd_distill.proposals.image_proposals.ImageProposals.
    cfg.MODEL.WSDDN.update({"PROPOSER": "", "NUM_PROPOSALS": 500, "MIN_PROPOSAL_AREA": 0.0})
    cfg.MODEL.EDGE_BOXES = CfgNode({name.upper(): value for name, value in asdict(EdgeBoxes()).items()})
    # INPUT_SIZE: side of the squares to which MultiLabelMapper.from_config resizes; the models accept no other size.
    cfg.MODEL.WSDDN.INPUT_SIZE = 672
    cfg.MODEL.CLASSIFIER = CfgNode({"INPUT_SIZE": 224, "POOL": 2, "LOSS": "cross_entropy"})
    cfg.MODEL.CLASSIFIER.LOSS_OPTIONS = CfgNode(new_allowed=True)  # as MultiLabelClassifier.loss_options
    cfg.INPUT.FAST_DECODE = True  # as MultiLabelMapper.fast_decode
    # In training, as MultiLabelMapper.crop_scale, crop_ratio, min_visible and color_augment; [] or "": none.
    cfg.INPUT.update({"CROP_SCALE": [], "CROP_RATIO": [3 / 4, 4 / 3], "MIN_VISIBLE": 0.5, "COLOR_AUGMENT": ""})
    cfg.MODEL.VGG16 = CfgNode({"OUT_FEATURES": ["conv5_3"]})
    cfg.MODEL.TIMM = CfgNode({"NAME": "tf_efficientnet_lite0", "OUT_FEATURES": ["stride16"], "FROZEN_BN": True})
    cfg.MODEL.SMALL_CONV_NET = CfgNode({"CHANNELS": [24, 48, 96], "CONVS": [1, 2, 2], "NORM": "BN"})
