"""Loading weights with another normalization is an error."""

import re

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from helpers.builders import CLASSES, PIXELS, K, make_student, make_teacher

from wsd_distill.class_names import class_names_state
from wsd_distill.distillation import Distiller, Objectives
from wsd_distill.modeling import CAFFE_BGR, FCHead, GlobalPoolHead, MultiLabelClassifier, SmallConvNet
from wsd_distill.modeling.checkpoints.load import CheckpointError

CHANGES = [
    {"pixel_mean": [100.0, 110.0, 121.0]},
    {"pixel_std": [1.0, 1.0, 1.0]},
    {"image_format": "BGR"},
]


def student_with(**pixels):
    backbone = SmallConvNet(channels=[4, 6], convs=[1, 1], norm="")
    head = GlobalPoolHead(channels=6)
    options = {"num_classes": K, "class_names": CLASSES, **PIXELS, **pixels}
    return MultiLabelClassifier(backbone=backbone, in_feature="conv2", head=head, **options)


def test_the_state_dict_has_the_normalization():
    state = student_with(**CAFFE_BGR).state_dict()
    assert state["pixel_mean"].flatten().tolist() == pytest.approx([103.939, 116.779, 123.68])
    assert state["pixel_std"].flatten().tolist() == [1, 1, 1]
    assert bytes(state["channel_order"].tolist()) == b"BGR"


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("strict", [True, False])
def test_another_normalization_is_an_error_that_names_the_settings(change, strict):
    theirs = {**PIXELS, **change}
    text = "set the model's pixel_mean={pixel_mean} pixel_std={pixel_std} image_format={image_format}"
    with pytest.raises(RuntimeError, match=re.escape(text.format(**theirs))):
        make_student().load_state_dict(student_with(**change).state_dict(), strict=strict)


def test_weights_without_normalization_are_an_error_in_a_checkpoint_too(tmp_path):
    state = student_with().state_dict()
    del state["channel_order"]
    torch.save({"model": state}, tmp_path / "weights.pth")
    with pytest.raises(RuntimeError, match="the weights lack their normalization.*convert_weights.py"):
        DetectionCheckpointer(make_student()).load(str(tmp_path / "weights.pth"))


def test_weights_with_the_same_normalization_are_loaded(tmp_path):
    torch.save({"model": student_with().state_dict()}, tmp_path / "weights.pth")
    model = make_student()
    DetectionCheckpointer(model).load(str(tmp_path / "weights.pth"))
    assert model.state_dict()["pixel_mean"].flatten().tolist() == PIXELS["pixel_mean"]


def test_aliases_are_dropped_and_other_tensors_are_unexpected():
    """In a converted file, which has no classifier."""
    state = {key: x for key, x in student_with().state_dict().items() if not key.startswith(("classifier.", "class_"))}
    state.update(class_names_state([]))
    state["head.conv1.0.weight"] = state["backbone.conv1.0.weight"]
    state["head.other"] = state["backbone.conv1.0.weight"].clone()
    with pytest.raises(RuntimeError, match="1 keys not in the model: head.other$"):
        make_student().load_state_dict(state, strict=False)
    del state["head.other"]
    assert make_student().load_state_dict(state, strict=False).unexpected_keys == []


def distil(student, teacher, path):
    torch.save(teacher.state_dict(), path)
    options = {"teacher_checkpoint": str(path), "objectives": Objectives()}
    return Distiller(student=student, teacher=make_teacher(), **options)


def test_a_teacher_with_another_normalization(tmp_path):
    teacher = make_teacher()
    teacher.pixel_mean += 20
    with pytest.raises(CheckpointError, match="(?s)teacher.pth does not fit .*pixel_mean=.120.0, 130.0, 140.0"):
        distil(make_student(), teacher, tmp_path / "teacher.pth")


def test_teacher_and_student_must_have_the_same_channel_order(tmp_path):
    with pytest.raises(ValueError, match="the teacher expects RGB images and the student BGR"):
        distil(student_with(image_format="BGR"), make_teacher(), tmp_path / "teacher.pth")


@pytest.mark.parametrize("name", ["teacher", "student", "stage2"])
def test_all_mappers_use_the_image_format_of_the_model(name, load_config):
    cfg = load_config(f"small/{name}.py", "model.image_format=BGR")
    mappers = [cfg.dataloader.train.mapper, *(test.loader.mapper for test in cfg.dataloader.test.values())]
    if name == "stage2":
        mappers.append(cfg.trainer.teacher_check.loader.mapper)
    assert {mapper.image_format for mapper in mappers} == {"BGR"}


def test_the_heads_of_both_models_have_the_same_shapes():
    """fc6 has 7x7 cells as input: RoI pooling in T-WDet, pool5 of 14x14 cells in S-Cls."""
    teacher = FCHead(input_shape=(2, 7, 7), dims=[5, 4])
    student = FCHead(input_shape=(2, 14, 14), dims=[5, 4], pool=2)
    shapes = {"fc6.weight": (5, 98), "fc6.bias": (5,), "fc7.weight": (4, 5), "fc7.bias": (4,)}
    for head in (teacher, student):
        assert {key: tuple(value.shape) for key, value in head.state_dict().items()} == shapes
