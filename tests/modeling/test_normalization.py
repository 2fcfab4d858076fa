"""Weights that were made for other pixels cannot be loaded by mistake."""

import re

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from helpers.builders import PIXELS, K, make_student, make_teacher

from wsd_distill.distillation import Distiller, Objectives
from wsd_distill.modeling import CAFFE_BGR, FCHead, GlobalPoolHead, MultiLabelClassifier, SmallConvNet
from wsd_distill.modeling.checkpoints import CheckpointError

HINT = [
    {"pixel_mean": [100.0, 110.0, 121.0]},
    {"pixel_std": [1.0, 1.0, 1.0]},
    {"image_format": "BGR"},
]


def student_with(**pixels):
    backbone = SmallConvNet(channels=[4, 6], convs=[1, 1], norm="")
    head = GlobalPoolHead(channels=6)
    return MultiLabelClassifier(backbone=backbone, in_feature="conv2", head=head, num_classes=K, **{**PIXELS, **pixels})


def test_every_state_dict_has_its_pixels():
    state = student_with(**CAFFE_BGR).state_dict()
    assert state["pixel_mean"].flatten().tolist() == pytest.approx([103.939, 116.779, 123.68])
    assert state["pixel_std"].flatten().tolist() == [1, 1, 1]
    assert bytes(state["channel_order"].tolist()) == b"BGR"


@pytest.mark.parametrize("change", HINT)
@pytest.mark.parametrize("strict", [True, False])
def test_other_pixels_are_an_error_that_says_what_to_set(change, strict):
    theirs = {**PIXELS, **change}
    text = "set the model's pixel_mean={pixel_mean} pixel_std={pixel_std} image_format={image_format}"
    with pytest.raises(RuntimeError, match=re.escape(text.format(**theirs))):
        make_student().load_state_dict(student_with(**change).state_dict(), strict=strict)


def test_weights_that_do_not_say_their_pixels_are_an_error_in_a_checkpoint_too(tmp_path):
    state = student_with().state_dict()
    del state["channel_order"]
    torch.save({"model": state}, tmp_path / "weights.pth")
    with pytest.raises(RuntimeError, match="the weights lack their normalization.*convert_weights.py"):
        DetectionCheckpointer(make_student()).load(str(tmp_path / "weights.pth"))


def test_the_same_pixels_are_loaded(tmp_path):
    torch.save({"model": student_with().state_dict()}, tmp_path / "weights.pth")
    model = make_student()
    DetectionCheckpointer(model).load(str(tmp_path / "weights.pth"))
    assert model.state_dict()["pixel_mean"].flatten().tolist() == PIXELS["pixel_mean"]


def test_a_second_name_of_a_tensor_is_not_unexpected_but_another_tensor_is():
    """In a converted file, which has no classifier."""
    state = {key: value for key, value in student_with().state_dict().items() if not key.startswith("classifier.")}
    state["head.conv1.0.weight"] = state["backbone.conv1.0.weight"]
    state["head.other"] = state["backbone.conv1.0.weight"].clone()
    assert make_student().load_state_dict(state, strict=False).unexpected_keys == ["head.other"]


def distil(student, teacher, path):
    torch.save(teacher.state_dict(), path)
    options = {"teacher_checkpoint": str(path), "objectives": Objectives()}
    return Distiller(student=student, teacher=make_teacher(), **options)


def test_a_teacher_of_other_pixels(tmp_path):
    teacher = make_teacher()
    teacher.pixel_mean += 20
    with pytest.raises(CheckpointError, match="(?s)teacher.pth does not fit .*pixel_mean=.120.0, 130.0, 140.0"):
        distil(make_student(), teacher, tmp_path / "teacher.pth")


def test_teacher_and_student_read_images_in_one_order(tmp_path):
    with pytest.raises(ValueError, match="the teacher expects RGB images and the student BGR"):
        distil(student_with(image_format="BGR"), make_teacher(), tmp_path / "teacher.pth")


@pytest.mark.parametrize("name", ["teacher", "student", "stage2"])
def test_every_mapper_reads_what_the_model_expects(name, load_config):
    cfg = load_config(f"digit_scenes/{name}.py", "model.image_format=BGR")
    mappers = [cfg.dataloader.train.mapper, *(test.loader.mapper for test in cfg.dataloader.test.values())]
    if name == "stage2":
        mappers.append(cfg.trainer.teacher_check.loader.mapper)
    assert {mapper.image_format for mapper in mappers} == {"BGR"}


def test_the_heads_of_both_models_have_the_same_weights():
    """fc6 of T-WDet sees 7x7 of RoI pooling, that of S-Cls 14x14 after pool5."""
    teacher = FCHead(input_shape=(2, 7, 7), dims=[5, 4])
    student = FCHead(input_shape=(2, 14, 14), dims=[5, 4], pool=2)
    shapes = {"fc6.weight": (5, 98), "fc6.bias": (5,), "fc7.weight": (4, 5), "fc7.bias": (4,)}
    for head in (teacher, student):
        assert {key: tuple(value.shape) for key, value in head.state_dict().items()} == shapes
