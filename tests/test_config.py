"""YAML users get the same modules as LazyConfig users."""

import pytest
from detectron2.config import get_cfg, instantiate
from detectron2.modeling import build_model

from wsd_distill.config import add_wsd_distill_config


def yaml_config(architecture):
    cfg = get_cfg()
    add_wsd_distill_config(cfg)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.META_ARCHITECTURE = architecture
    cfg.MODEL.BACKBONE.NAME = "build_small_conv_net"
    cfg.MODEL.SMALL_CONV_NET.CHANNELS = [16, 32, 64]
    cfg.MODEL.SMALL_CONV_NET.CONVS = [1, 1, 2]
    cfg.MODEL.IMAGE_LEVEL.NUM_CLASSES = 10
    cfg.MODEL.WSDDN.IN_FEATURE = cfg.MODEL.CLASSIFIER.IN_FEATURE = "conv3"
    cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = 5
    cfg.MODEL.ROI_BOX_HEAD.POOLER_TYPE = "ROIPool"
    return cfg


@pytest.mark.parametrize("architecture, lazy", [("WSDDN", "teacher"), ("MultiLabelClassifier", "student")])
def test_same_state_dict_as_the_lazy_config(architecture, lazy, load_config):
    cfg = yaml_config(architecture)
    cfg.MODEL.IMAGE_LEVEL.HEAD = "fc" if architecture == "WSDDN" else "avg"
    cfg.MODEL.IMAGE_LEVEL.FC_DIMS = [128]
    ours = {key: tuple(value.shape) for key, value in build_model(cfg).state_dict().items()}
    theirs = instantiate(load_config(f"digit_scenes/{lazy}.py").model).state_dict()
    assert ours == {key: tuple(value.shape) for key, value in theirs.items()}


def test_fc_head_of_a_classifier_follows_the_input_side():
    cfg = yaml_config("MultiLabelClassifier")
    cfg.MODEL.CLASSIFIER.INPUT_SIDE = 48
    cfg.MODEL.IMAGE_LEVEL.FC_DIMS = [7]
    head = build_model(cfg).head
    assert head.layers[2].in_features == 64 * 6 * 6  # 48 / 4 cells, pooled by 2
