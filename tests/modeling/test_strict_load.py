"""Incomplete checkpoints of this project are errors; ImageNet weights lack the new layers only."""

import logging
import re

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.modeling.backbone import BasicStem, ResNet
from helpers.builders import CLASSES, PIXELS, K, make_student, make_teacher

from wsd_distill.class_names import class_names_state
from wsd_distill.modeling import FCHead, GlobalPoolHead, MultiLabelClassifier, SmallConvNet, make_stages


def student(head=None, class_names=CLASSES, num_classes=K, convs=1, new_layers=()):
    backbone = SmallConvNet(channels=[4, 6], convs=[1, convs], norm="BN")
    options = {"num_classes": num_classes, "class_names": class_names, "new_layers": new_layers, **PIXELS}
    return MultiLabelClassifier(
        backbone=backbone, in_feature="conv2", head=head or GlobalPoolHead(channels=6), **options
    )


def fc_head(dims=(5, 4), side=4, **options):
    return FCHead(input_shape=(6, side, side), dims=list(dims), **options)


def load(model, state, folder):
    """Load with Detectron2's checkpointer, which first drops keys of another shape."""
    torch.save({"model": state}, folder / "weights.pth")
    DetectionCheckpointer(model).load(str(folder / "weights.pth"))


def imagenet(model):
    """Return a converted file: a plain dict without classification layers, classes and num_batches_tracked."""
    new = ("cls_branch.", "det_branch.", "classifier.", "class_names")
    state = model.state_dict()
    kept = {key: state[key] for key in state if not key.startswith(new) and not key.endswith("num_batches_tracked")}
    return {**kept, **class_names_state([])}


def assert_equal(model, state):
    found = model.state_dict()
    shared = [key for key in state if not key.startswith("class_names")]
    assert shared and all(torch.equal(found[key], state[key]) for key in shared)


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("plain", [True, False])
def test_half_the_keys(strict, plain, tmp_path):
    state = student().state_dict()
    dropped = [key for key in list(state)[len(state) // 2 :] if not key.startswith("class_names")]
    for key in dropped:
        del state[key]
    model, state = student(), dict(state) if plain else state  # a plain dict has no metadata of PyTorch
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(RuntimeError, match="the weights do not fit the model; use the config of the training") as error:
        model.load_state_dict(state, strict=strict)
    assert all(key in str(error.value) for key in dropped if not key.endswith("num_batches_tracked"))
    with pytest.raises(RuntimeError, match=re.escape(dropped[-1])):
        load(model, state, tmp_path)
    assert_equal(model, before)  # nothing was loaded


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


@pytest.mark.parametrize("plain", [True, False])
def test_another_number_of_classes(plain, tmp_path):
    """Detectron2's checkpointer drops the classification layer, so that the file looks like ImageNet weights."""
    state = student(class_names=[*CLASSES, "cube"], num_classes=K + 1).state_dict()
    message = r"the weights have 4 classes \(ball, box, wedge, cube\), the model has 3 \(ball, box, wedge\)"
    with pytest.raises(RuntimeError, match=message):
        load(student(), dict(state) if plain else state, tmp_path)
    unnamed = {key: value for key, value in state.items() if not key.startswith("class_names")}
    with pytest.raises(RuntimeError, match=r"no class names: train again, or give the classes .*convert_weights.py"):
        load(student(), unnamed, tmp_path)


@pytest.mark.parametrize(
    "names, difference",
    [
        (["box", "ball", "wedge"], "first different at 0: 'box' and 'ball', 1: 'ball' and 'box'; the same names in"),
        (["ball", "box", "cube"], "first different at 2: 'cube' and 'wedge'"),
        (["ball", "bowl", "wedge"], "(ball, bowl, wedge), the model has 3 (ball, box, wedge); first different at 1"),
    ],
)
def test_other_classes(names, difference, tmp_path):
    """Renamed or in another order; the names of the last case have equally many bytes."""
    state = student(class_names=names).state_dict()
    with pytest.raises(RuntimeError, match=re.escape(difference)):
        load(student(), state, tmp_path)
    with pytest.raises(RuntimeError, match=re.escape(difference)):
        student().load_state_dict(state, strict=False)


def test_a_model_without_classes_takes_those_of_the_weights(tmp_path):
    model = student(class_names=None)
    load(model, student().state_dict(), tmp_path)
    assert model.class_names == CLASSES
    load(student(), model.state_dict(), tmp_path)
    with pytest.raises(RuntimeError, match="the weights have 3 classes, and num_classes of the model is 4"):
        load(student(class_names=None, num_classes=4), student().state_dict(), tmp_path)


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


@pytest.mark.parametrize(
    "head, new_layers, random",
    [
        (fc_head(dims=[7, 7]), ["head"], "classifier, head.fc6, head.fc7"),
        (fc_head(dims=[5, 7]), ["head.fc7"], "classifier, head.fc7"),
        (fc_head(batch_norm=True), ["head.norm6", "head.norm7"], "classifier, head.norm6, head.norm7"),
        (GlobalPoolHead(channels=6), ["head"], "classifier"),
    ],
    ids=["width", "one", "norm", "none"],
)
def test_imagenet_weights_lack_declared_layers_only(head, new_layers, random, tmp_path, caplog):
    weights = imagenet(student(head=fc_head()))
    if isinstance(head, GlobalPoolHead):
        weights["backbone.last.weight"] = weights["head.fc7.weight"]  # a second name, as in converted files
    with pytest.raises(RuntimeError, match=r"train.new_layers .*keys.*: .*head\."):
        load(student(head=head), weights, tmp_path)
    model = student(head=head, new_layers=new_layers)
    before = {key: value.clone() for key, value in model.state_dict().items() if key.startswith(tuple(new_layers))}
    with caplog.at_level(logging.INFO, "wsd_distill"):
        load(model, weights, tmp_path)
    assert f"Not in the weights, stay random: {random}" in caplog.messages
    assert all(torch.equal(model.state_dict()[key], value) for key, value in before.items())
    assert_equal(model.backbone, {k[9:]: v for k, v in weights.items() if k.startswith("backbone.conv")})
    if new_layers == ["head.fc7"]:
        assert torch.equal(model.head.fc6.weight, weights["head.fc6.weight"])


def test_imagenet_weights_without_any_layer_of_the_head(tmp_path):
    weights = {key: x for key, x in imagenet(student(head=fc_head())).items() if not key.startswith("head.")}
    with pytest.raises(RuntimeError, match=r"4 keys missing or of another shape: head.fc6.bias, head.fc6.weight, head"):
        load(student(head=fc_head()), weights, tmp_path)
    with pytest.raises(RuntimeError, match=r"1 keys not in the model: foreign.weight"):
        load(student(), {**imagenet(student()), "foreign.weight": torch.ones(2)}, tmp_path)


def test_imagenet_weights_of_another_network_are_an_error(tmp_path):
    message = "use ImageNet weights of this network.* keys missing or of another shape: backbone.conv2.2"
    with pytest.raises(RuntimeError, match=message):
        load(student(convs=2), imagenet(student()), tmp_path)
    with pytest.raises(RuntimeError, match="1 keys missing or of another shape: head.fc6.weight"):
        load(student(head=fc_head()), imagenet(student(head=fc_head(side=3))), tmp_path)


def test_a_deeper_resnet(tmp_path):
    """ResNet-34 has all keys of ResNet-18, with the same shapes."""

    def resnet(depth):
        backbone = ResNet(BasicStem(norm="FrozenBN"), make_stages(depth=depth), out_features=["res5"])
        head = GlobalPoolHead(channels=512)
        options = {"num_classes": K, "class_names": CLASSES, **PIXELS}
        return MultiLabelClassifier(backbone=backbone, in_feature="res5", head=head, **options)

    with pytest.raises(RuntimeError, match="keys not in the model: backbone.res2.2"):
        load(resnet(18), resnet(34).state_dict(), tmp_path)
    with pytest.raises(RuntimeError, match="keys not in the model: backbone.res2.2"):
        load(resnet(18), imagenet(resnet(34)), tmp_path)
