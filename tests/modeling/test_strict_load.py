"""Incomplete checkpoints of this project are errors; ImageNet weights lack the new layers only."""

import re

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.modeling.backbone import BasicStem, ResNet
from helpers.builders import PIXELS, K, make_student, make_teacher

from wsd_distill.modeling import FCHead, GlobalPoolHead, MultiLabelClassifier, SmallConvNet, make_stages


def student(head=None, num_classes=K, convs=1):
    backbone = SmallConvNet(channels=[4, 6], convs=[1, convs], norm="BN")
    head = head or GlobalPoolHead(channels=6)
    return MultiLabelClassifier(backbone=backbone, in_feature="conv2", head=head, num_classes=num_classes, **PIXELS)


def fc_head(dims=(5, 4), side=4, **options):
    return FCHead(input_shape=(6, side, side), dims=list(dims), **options)


def load(model, state, folder):
    """Load with Detectron2's checkpointer, which first drops keys of another shape."""
    torch.save({"model": state}, folder / "weights.pth")
    DetectionCheckpointer(model).load(str(folder / "weights.pth"))


def imagenet(model):
    """Return a converted file: a plain dict without classification layers and num_batches_tracked."""
    new = ("cls_branch.", "det_branch.", "classifier.")
    state = model.state_dict()
    return {key: state[key] for key in state if not key.startswith(new) and not key.endswith("num_batches_tracked")}


def assert_equal(model, state):
    found = model.state_dict()
    assert state and all(torch.equal(found[key], value) for key, value in state.items())


@pytest.mark.parametrize("strict", [True, False])
def test_half_the_keys(strict, tmp_path):
    state = student().state_dict()
    dropped = list(state)[len(state) // 2 :]
    for key in dropped:
        del state[key]
    with pytest.raises(RuntimeError, match="the weights do not fit the model; use the config of the training") as error:
        student().load_state_dict(state, strict=strict)
    assert all(key in str(error.value) for key in dropped if not key.endswith("num_batches_tracked"))
    with pytest.raises(RuntimeError, match=re.escape(dropped[-1])):
        load(student(), state, tmp_path)
    with pytest.raises(RuntimeError, match=r"backbone.conv2.1.weight"):  # without PyTorch's metadata
        load(student(), {key: value for key, value in state.items() if not key.startswith("backbone.conv2")}, tmp_path)


@pytest.mark.parametrize("deeper", [True, False])
def test_another_backbone(deeper, tmp_path):
    """A deeper backbone has all keys of the model, and more."""
    model, source = student(convs=1 if deeper else 2), student(convs=2 if deeper else 1)
    text = "keys not in the model: backbone.conv2.2" if deeper else "keys missing or of another shape: backbone.conv2.2"
    with pytest.raises(RuntimeError, match=text):
        load(model, source.state_dict(), tmp_path)


@pytest.mark.parametrize("plain", [True, False])
def test_the_file_of_the_other_model(plain, tmp_path):
    for model, source, key in (
        (make_student(), make_teacher(), "classifier"),
        (make_teacher(), make_student(), "head"),
    ):
        state = dict(source.state_dict()) if plain else source.state_dict()
        with pytest.raises(RuntimeError, match=rf"keys missing or of another shape: .*{key}\."):
            load(model, state, tmp_path)


def test_another_number_of_classes(tmp_path):
    message = "2 keys missing or of another shape: classifier.bias, classifier.weight"
    with pytest.raises(RuntimeError, match=message):
        load(student(), student(num_classes=K + 1).state_dict(), tmp_path)


def test_a_checkpoint_of_the_same_model(tmp_path):
    model, source = student(), student()
    load(model, source.state_dict(), tmp_path)
    assert_equal(model, source.state_dict())


def test_imagenet_weights_lack_the_classification_layers(tmp_path):
    model, weights = student(head=fc_head()), imagenet(student(head=fc_head()))
    before = model.classifier.weight.clone()
    load(model, weights, tmp_path)
    assert_equal(model, weights)
    assert torch.equal(model.classifier.weight, before)
    load(make_teacher(), imagenet(make_teacher()), tmp_path)


@pytest.mark.parametrize("head", [fc_head(dims=[7, 7]), fc_head(batch_norm=True)], ids=["width", "norm"])
def test_imagenet_weights_lack_new_layers_of_the_head(head, tmp_path):
    model, weights = student(head=head), imagenet(student(head=fc_head()))
    load(model, weights, tmp_path)
    assert_equal(model.backbone, {k[9:]: v for k, v in weights.items() if k.startswith("backbone.")})


def test_imagenet_weights_of_another_network_are_an_error(tmp_path):
    message = "use ImageNet weights of this backbone.* keys missing or of another shape: backbone.conv2.2"
    with pytest.raises(RuntimeError, match=message):
        load(student(convs=2), imagenet(student()), tmp_path)
    with pytest.raises(RuntimeError, match="1 keys missing or of another shape: head.fc6.weight"):
        load(student(head=fc_head()), imagenet(student(head=fc_head(side=3))), tmp_path)


def test_a_deeper_resnet(tmp_path):
    """ResNet-34 has all keys of ResNet-18, with the same shapes."""

    def resnet(depth):
        backbone = ResNet(BasicStem(norm="FrozenBN"), make_stages(depth=depth), out_features=["res5"])
        return MultiLabelClassifier(
            backbone=backbone, in_feature="res5", head=GlobalPoolHead(channels=512), num_classes=K, **PIXELS
        )

    with pytest.raises(RuntimeError, match="keys not in the model: backbone.res2.2"):
        load(resnet(18), resnet(34).state_dict(), tmp_path)
