"""YAML configs build the same models as LazyConfigs."""

from pathlib import Path

import pytest
import torch
from detectron2.config import LazyConfig, get_cfg, instantiate
from detectron2.modeling import build_model

from wsd_distill.config import add_wsd_distill_config

CONFIGS = Path(__file__).parent.parent / "configs"
LAZY_CONFIGS = {  # YAML -> LazyConfig and prefix of its models
    "vgg16": ("vgg16/base.py", ""),
    "resnet50_c4": ("common/resnet50.py", "c4_"),
    "resnet50_dc5": ("common/resnet50.py", "dc5_"),
    "timm": ("efficientnet_lite0/base.py", ""),
}


def yaml_config(path=None):
    cfg = get_cfg()
    add_wsd_distill_config(cfg)
    if path:
        cfg.merge_from_file(str(path))
    return cfg


def small_config(architecture):
    cfg = yaml_config()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.META_ARCHITECTURE = architecture
    cfg.MODEL.BACKBONE.NAME = "build_small_conv_net"
    cfg.MODEL.SMALL_CONV_NET.CHANNELS = [16, 32, 64]
    cfg.MODEL.SMALL_CONV_NET.CONVS = [1, 1, 2]
    cfg.MODEL.IMAGE_LEVEL.NUM_CLASSES = 10
    cfg.MODEL.IMAGE_LEVEL.IN_FEATURE = "conv3"
    cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = 5
    cfg.MODEL.ROI_BOX_HEAD.POOLER_TYPE = "ROIPool"
    return cfg


def shapes(model):
    return {key: tuple(value.shape) for key, value in model.state_dict().items()}


@pytest.mark.parametrize("architecture, lazy", [("WSDDN", "teacher"), ("MultiLabelClassifier", "student")])
def test_same_state_dict_as_the_lazy_config(architecture, lazy, load_config):
    cfg = small_config(architecture)
    if architecture == "WSDDN":
        cfg.MODEL.SMALL_CONV_NET.CHANNELS, cfg.MODEL.SMALL_CONV_NET.CONVS = [16, 32], [1, 2]
        cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = 7
        node = {"IN_FEATURE": "conv2", "HEAD": "fc", "FC_DIMS": [128], "BATCH_NORM": True}
    else:
        node = {"HEAD": "avg"}
    cfg.MODEL.IMAGE_LEVEL.update(node)
    assert shapes(build_model(cfg)) == shapes(instantiate(load_config(f"small/{lazy}.py").model))


def test_fc_head_of_a_classifier_depends_on_the_input_size():
    cfg = small_config("MultiLabelClassifier")
    cfg.MODEL.CLASSIFIER.INPUT_SIZE = 48
    cfg.MODEL.IMAGE_LEVEL.FC_DIMS = [7]
    assert build_model(cfg).head.fc6.in_features == 64 * 6 * 6  # 48 / 4 cells, pooled by 2


@pytest.mark.parametrize("model", LAZY_CONFIGS)
@pytest.mark.parametrize("kind", ["teacher", "student"])
def test_each_yaml_config_equals_its_lazy_config(model, kind):
    """Shapes of all weights, normalization, feature maps, trained parameters and RoI pooling."""
    file, prefix = LAZY_CONFIGS[model]
    lazy_cfg = LazyConfig.load(str(CONFIGS / file))
    lazy = lazy_cfg[f"{prefix}{kind}"]
    lazy.num_classes = 80
    if kind == "teacher" and "proposals" not in lazy_cfg:
        lazy.score_scale = 1.0
    cfg = yaml_config(CONFIGS / f"yaml/{kind}_{model}.yaml")
    cfg.MODEL.DEVICE = "cpu" if model == "timm" else "meta"
    with torch.device(cfg.MODEL.DEVICE):  # without memory for the 134 million weights of VGG16
        ours, theirs = build_model(cfg), instantiate(lazy)
    assert shapes(ours) == shapes(theirs)
    assert list(lazy.pixel_mean) == cfg.MODEL.PIXEL_MEAN and list(lazy.pixel_std) == cfg.MODEL.PIXEL_STD
    assert ours.image_format == theirs.image_format and ours.in_feature == theirs.in_feature
    assert ours.backbone.output_shape() == theirs.backbone.output_shape()
    trained = [{key for key, p in each.named_parameters() if p.requires_grad} for each in (ours, theirs)]
    assert trained[0] == trained[1] != set()
    if kind == "teacher":
        poolers = [[(str(p.level_poolers), p.output_size) for p in (each.box_pooler,)] for each in (ours, theirs)]
        assert poolers[0] == poolers[1] and ours.score_scale == theirs.score_scale
    if "dataloader" in lazy_cfg:
        sizes = {"teacher": lazy_cfg.teacher_size, "student": lazy_cfg.dataloader.train.mapper.sizes[0]}
        assert ours.input_size == sizes[kind]


def test_every_yaml_has_its_lazy_config():
    names = {path.stem for path in (CONFIGS / "yaml").glob("*.yaml")}
    assert names == {f"{kind}_{model}" for model in LAZY_CONFIGS for kind in ("teacher", "student")}
