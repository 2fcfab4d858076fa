"""YAML configs build the same models as LazyConfigs."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import LazyConfig, get_cfg, instantiate
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import DefaultPredictor, DefaultTrainer
from detectron2.modeling import build_model
from detectron2.structures import BoxMode
from helpers.builders import CLASSES
from PIL import Image

from wsd_distill.config import add_wsd_distill_config
from wsd_distill.data.build import build_train_loader
from wsd_distill.data.image import read_rgb
from wsd_distill.data.mapper import MultiLabelMapper
from wsd_distill.losses import hard_label_loss

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


def equal_config(lazy, kind):
    """Config of the models of configs/small at the sizes of a LazyConfig."""
    cfg = small_config("WSDDN" if kind == "teacher" else "MultiLabelClassifier")
    if kind == "teacher":
        cfg.MODEL.SMALL_CONV_NET.update({"CHANNELS": [16, 32], "CONVS": [1, 2]})
        cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = 7
        cfg.MODEL.IMAGE_LEVEL.update({"IN_FEATURE": "conv2", "HEAD": "fc", "FC_DIMS": [128], "BATCH_NORM": True})
        cfg.MODEL.WSDDN.update({"INPUT_SIZE": 224, "NUM_PROPOSALS": 32, "SCORE_SCALE": lazy.model.score_scale})
    else:
        cfg.MODEL.IMAGE_LEVEL.HEAD = "avg"
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = list(lazy.model.pixel_mean), list(lazy.model.pixel_std)
    cfg.INPUT.FORMAT = lazy.model.image_format
    return cfg


@pytest.fixture
def photo(tmp_path):
    """A JPEG of 1200 x 900 pixels with details that depend on how it is reduced, as a record with proposals."""
    x, y = np.meshgrid(np.arange(1200), np.arange(900))
    noise = np.random.default_rng(0).integers(0, 100, (900, 1200, 3))
    pixels = noise + np.stack([x / 9, y / 7, 70 * (np.sin(x * y / 900) > 0)], axis=2)
    Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "photo.jpg")
    boxes = np.array([[0, 0, 600, 500], [300, 200, 1100, 880], [50, 60, 90, 400]], np.float32)
    record = {"file_name": str(tmp_path / "photo.jpg"), "image_id": 0, "labels": []}
    scores = np.array([0.3, 0.2, 0.1], np.float32)
    proposals = {"proposal_objectness_logits": scores, "proposal_bbox_mode": BoxMode.XYXY_ABS}
    return {**record, **proposals, "proposal_boxes": boxes}


@pytest.mark.parametrize("kind", ["student", "teacher"])
def test_yaml_and_lazy_config_give_the_same_probabilities(kind, photo, load_config, tmp_path):
    lazy = load_config(
        f"small/{kind}.py", "dataloader.train.mapper.sizes=[224]", "dataloader.train.mapper.fast_decode=True"
    )
    model = instantiate(lazy.model).eval()
    torch.save({"model": model.state_dict()}, tmp_path / "weights.pth")
    with torch.no_grad():
        (expected,) = model([instantiate(lazy.dataloader.test.test.loader.mapper)(photo)])
    cfg = equal_config(lazy, kind)
    cfg.MODEL.WEIGHTS = str(tmp_path / "weights.pth")
    predictor = DefaultPredictor(cfg)
    assert predictor.model.class_names == list(lazy.dataset.class_names) and len(lazy.dataset.class_names) == 10
    with torch.no_grad():
        (found,) = predictor.model([MultiLabelMapper.from_config(cfg, is_train=False)(photo)])
    torch.testing.assert_close(found["image_scores"], expected["image_scores"], rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="has 800 x 1067 pixels, and the model takes squares of 224"):
        predictor(read_rgb(photo["file_name"]))  # resized by Detectron2, whose pixels differ


def test_the_mapper_of_a_config():
    cfg = small_config("WSDDN")
    cfg.MODEL.WSDDN.update({"INPUT_SIZE": 96, "NUM_PROPOSALS": 7})
    cfg.INPUT.update({"RANDOM_FLIP": "none", "FORMAT": "BGR", "FAST_DECODE": False})
    mapper = MultiLabelMapper.from_config(cfg, is_train=True)
    assert (mapper.sizes, mapper.num_proposals, mapper.flip_prob, mapper.image_format) == ([96], 7, 0.0, "BGR")
    assert (mapper.is_train, mapper.num_classes, mapper.fast_decode) == (True, 10, False)
    assert (mapper.crop_scale, mapper.color_augment) == (None, None)
    augmented = {"CROP_SCALE": [0.25, 1.0], "CROP_RATIO": [1.0, 1.0], "MIN_VISIBLE": 0.3, "COLOR_AUGMENT": "rand-m9"}
    cfg.INPUT.update(augmented)
    mapper = MultiLabelMapper.from_config(cfg, is_train=True)
    assert (list(mapper.crop_scale), list(mapper.crop_ratio)) == ([0.25, 1.0], [1.0, 1.0])
    assert (mapper.min_visible, mapper.color_augment) == (0.3, "rand-m9")


def test_the_mapper_of_a_config_rejects_what_it_would_not_follow():
    cfg = small_config("WSDDN")
    cfg.INPUT.CROP.ENABLED = True
    with pytest.raises(ValueError, match="INPUT.CROP.ENABLED is true.* set INPUT.CROP_SCALE"):
        MultiLabelMapper.from_config(cfg, is_train=True)
    cfg.INPUT.CROP.ENABLED = False
    cfg.INPUT.RANDOM_FLIP = "vertical"
    with pytest.raises(ValueError, match="INPUT.RANDOM_FLIP is 'vertical'"):
        MultiLabelMapper.from_config(cfg, is_train=True)


class YamlTrainer(DefaultTrainer):
    """The trainer of docs/recipes.md."""

    @classmethod
    def build_train_loader(cls, cfg):
        mapper = MultiLabelMapper.from_config(cfg, is_train=True)
        return build_train_loader(cfg.DATASETS.TRAIN[0], mapper=mapper, total_batch_size=cfg.SOLVER.IMS_PER_BATCH)


def register_photos(name, classes, photo):
    DatasetCatalog.register(name, lambda: [{**photo, "image_id": i, "labels": [i % 3]} for i in range(4)])
    MetadataCatalog.get(name).thing_classes = classes


def test_a_yaml_training_saves_and_compares_the_classes(photo, restore_catalogs, tmp_path):
    register_photos("photos", CLASSES, photo)
    register_photos("permuted", CLASSES[::-1], photo)
    cfg = small_config("MultiLabelClassifier")
    cfg.MODEL.IMAGE_LEVEL.update({"NUM_CLASSES": 3, "HEAD": "avg"})
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST, cfg.OUTPUT_DIR = ("photos",), (), str(tmp_path)
    cfg.SOLVER.update({"IMS_PER_BATCH": 2, "MAX_ITER": 1, "BASE_LR": 1e-4})
    trainer = YamlTrainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    cfg.DATASETS.TRAIN = ("permuted",)
    text = r"the weights have 3 classes \(ball, box, wedge\), the model has 3 \(wedge, box, ball\)"
    with pytest.raises(RuntimeError, match=text):
        YamlTrainer(cfg).resume_or_load(resume=True)
    cfg.MODEL.WEIGHTS = str(tmp_path / "model_final.pth")
    with pytest.raises(RuntimeError, match=text):
        DefaultPredictor(cfg)
    cfg.MODEL.IMAGE_LEVEL.NUM_CLASSES = 4
    with pytest.raises(ValueError, match="NUM_CLASSES is 4, and DATASETS.TRAIN has 3 classes: set .* to 3"):
        build_model(cfg)
    cfg.DATASETS.TRAIN = ("photos", "permuted")
    with pytest.raises(ValueError, match="DATASETS.TRAIN: photos, permuted have different classes"):
        build_model(cfg)


@pytest.mark.parametrize("query", ["", "?matching_heuristics=True", "?a.pth"])
@pytest.mark.parametrize("name", ["R-50.pkl", "R-50.PKL", "R-50.pickle"])
def test_a_pickle_as_yaml_weights_is_refused(name, query, tmp_path):
    cfg = small_config("WSDDN")
    cfg.MODEL.WEIGHTS = str(tmp_path / name) + query
    with pytest.raises(ValueError, match=f"MODEL.WEIGHTS=.*{name}.* is a pickle, which can run code"):
        build_model(cfg)


class Attack:
    def __reduce__(self):
        return os.mkdir, ("attacked",)


@pytest.mark.parametrize("query", ["", "?matching_heuristics=True"])
def test_yaml_weights_run_no_code(query, tmp_path, monkeypatch):
    """Detectron2 reads them, after they were checked."""
    monkeypatch.chdir(tmp_path)
    torch.save({"model": {"weight": Attack()}}, "weights.pth")
    cfg = small_config("MultiLabelClassifier")
    cfg.MODEL.WEIGHTS = "weights.pth" + query
    with pytest.raises(ValueError, match="weights.pth is truncated or not a file of PyTorch tensors") as error:
        DefaultPredictor(cfg)
    assert "weights_only" not in str(error.value) and not (tmp_path / "attacked").exists()


def shapes(model):
    """Shapes of all weights; a model from YAML without a dataset has no class names yet."""
    state = model.state_dict()
    return {key: tuple(value.shape) for key, value in state.items() if not key.startswith("class_names")}


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


def test_refinement_branches_of_a_yaml_config():
    cfg = small_config("WSDDN")
    assert build_model(cfg).refinement is None
    cfg.MODEL.WSDDN.NUM_REFINEMENTS = 3
    assert build_model(cfg).refinement.num_branches == 3


def test_fc_head_of_a_classifier_depends_on_the_input_size():
    cfg = small_config("MultiLabelClassifier")
    cfg.MODEL.CLASSIFIER.INPUT_SIZE = 48
    cfg.MODEL.IMAGE_LEVEL.FC_DIMS = [7]
    assert build_model(cfg).head.fc6.in_features == 64 * 6 * 6  # 48 / 4 cells, pooled by 2


def test_loss_of_a_classifier(tmp_path):
    file = tmp_path / "student.yaml"
    file.write_text("MODEL:\n  CLASSIFIER:\n    LOSS: two_way\n    LOSS_OPTIONS:\n      tp: 2.0\n")
    cfg = small_config("MultiLabelClassifier")
    assert build_model(cfg).loss is hard_label_loss
    cfg.merge_from_file(str(file))
    loss = build_model(cfg).loss.loss
    assert (type(loss).__name__, loss.tp, loss.tn) == ("TwoWayLoss", 2.0, 1.0)


@pytest.mark.parametrize("model", LAZY_CONFIGS)
@pytest.mark.parametrize("kind", ["teacher", "student"])
def test_each_yaml_config_equals_its_lazy_config(model, kind):
    """Shapes of all weights, normalization, feature maps, trained parameters and RoI pooling."""
    file, prefix = LAZY_CONFIGS[model]
    lazy_cfg = LazyConfig.load(str(CONFIGS / file))
    lazy = lazy_cfg[f"{prefix}{kind}"]
    lazy.num_classes, lazy.class_names = 80, None
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
        recipe = LazyConfig.load(str((CONFIGS / file).with_name("stage1.py"))).dataloader.train.mapper
        assert ours.input_size == (recipe.teacher_sizes if kind == "teacher" else recipe.sizes)[0]


def test_every_yaml_has_its_lazy_config():
    names = {path.stem for path in (CONFIGS / "yaml").glob("*.yaml")}
    assert names == {f"{kind}_{model}" for model in LAZY_CONFIGS for kind in ("teacher", "student")}
