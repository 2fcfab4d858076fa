"""VGG16 with converted weights equals torchvision's module and Caffe's arithmetic."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from detectron2.structures import Boxes, Instances
from helpers.caffe_files import write_caffemodel
from helpers.running import in_process
from PIL import Image
from torch import nn
from torchvision.models.vgg import cfgs, make_layers

from wsd_distill.data.mapper import MultiLabelMapper
from wsd_distill.modeling import CAFFE_BGR, IMAGENET_RGB, VGG16, WSDDN, FCHead, MultiLabelClassifier
from wsd_distill.modeling.checkpoints.converters import (
    VGG16_CONVS,
    from_caffe_vgg16,
    from_torchvision_resnet,
    from_torchvision_vgg16,
)
from wsd_distill.modeling.checkpoints.load import read_weights

WIDTH = 16  # of fc6 and fc7, instead of 4096


@pytest.fixture(scope="module")
def torchvision_vgg16():
    """torchvision's module with random weights and narrow fully connected layers."""
    torch.manual_seed(0)
    with torch.device("meta"):
        net = torchvision.models.vgg16()
    net.features = make_layers(cfgs["D"])
    for module in net.features:
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            nn.init.normal_(module.bias, std=0.1)
    for i, inputs, outputs in ((0, 512 * 7 * 7, WIDTH), (3, WIDTH, WIDTH), (6, WIDTH, 10)):
        net.classifier[i] = nn.Linear(inputs, outputs)
    return net.eval()


def models(channels=(64, 128, 256, 512, 512), **pixels):
    def backbone():
        return VGG16(out_features=["conv5_3"], channels=channels)

    width = channels[-1]
    teacher = WSDDN(
        backbone=backbone(),
        in_feature="conv5_3",
        head=FCHead(input_shape=(width, 7, 7), dims=[WIDTH, WIDTH]),
        num_classes=3,
        **pixels,
    )
    head = FCHead(input_shape=(width, 14, 14), dims=[WIDTH, WIDTH], pool=2)
    student = MultiLabelClassifier(backbone=backbone(), in_feature="conv5_3", head=head, num_classes=3, **pixels)
    return teacher.eval(), student.eval()


def load(model, path):
    """Load a converted file; only the classification layers, which ImageNet weights lack, may be missing."""
    found = model.load_state_dict(read_weights(path)["model"], strict=False)  # another shape is an error
    assert {key.split(".")[0] for key in found.missing_keys} <= {"classifier", "cls_branch", "det_branch"}
    assert not found.unexpected_keys


@torch.no_grad()
def test_torchvision_vgg16(torchvision_vgg16, tmp_path):
    """conv5_3 and fc7 of both models, loaded from one file."""
    torch.save(torchvision_vgg16.state_dict(), tmp_path / "vgg16.pth")
    torch.save(from_torchvision_vgg16(tmp_path / "vgg16.pth"), tmp_path / "converted.pth")
    image = torch.randint(0, 256, (3, 224, 224), dtype=torch.uint8)
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[:, :, None, None]
    conv5_3 = torchvision_vgg16.features[:30]((image[None] / 255 - mean) / std)
    pool5 = torchvision_vgg16.features[30](conv5_3)
    fc7 = torchvision_vgg16.classifier[:6](torchvision_vgg16.avgpool(pool5).flatten(1))
    assert conv5_3.std() > 0.01 and fc7.std() > 0.01

    teacher, student = models(**IMAGENET_RGB)
    for model in (teacher, student):
        load(model, tmp_path / "converted.pth")
    features = student.features([{"image": image}])
    torch.testing.assert_close(features["conv5_3"], conv5_3, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(student.head(features["conv5_3"]), fc7, rtol=1e-3, atol=1e-3)

    # a box of all 14 x 14 cells: RoI pooling to 7 x 7 equals pool5, so that fc6 and fc7 are the same
    boxes = Instances((224, 224), proposal_boxes=Boxes(torch.tensor([[0.0, 0, 208, 208]])), scores=torch.ones(1))
    seen = []
    teacher.head.register_forward_hook(lambda module, inputs, output: seen.append(output))
    output = teacher.compute_outputs([{"image": image, "proposals": boxes}])
    torch.testing.assert_close(output.features["conv5_3"], conv5_3, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(seen[0], fc7, rtol=1e-3, atol=1e-3)


def caffe_layers(channels):
    rng, inputs, layers = np.random.default_rng(0), 3, {}
    for name in VGG16_CONVS:
        outputs = channels[int(name[4]) - 1]
        layers[name] = [rng.standard_normal((outputs, inputs, 3, 3)) / (3 * inputs**0.5), rng.standard_normal(outputs)]
        inputs = outputs
    for name, wide, outputs in (("fc6", inputs * 49, WIDTH), ("fc7", WIDTH, WIDTH), ("fc8", WIDTH, 10)):
        layers[name] = [rng.standard_normal((outputs, wide)) / wide**0.5, rng.standard_normal(outputs)]
    return {name: [blob.astype(np.float32) for blob in blobs] for name, blobs in layers.items()}


@pytest.mark.parametrize("old", [True, False])
@torch.no_grad()
def test_caffe_vgg16_from_the_image_to_fc7(old, tmp_path):
    """Caffe's computation: BGR, mean subtracted, not scaled; pooling rounds up."""
    channels = (4, 4, 5, 5, 6)
    layers = caffe_layers(channels)
    write_caffemodel(tmp_path / "vgg16.caffemodel", layers, old=old)
    torch.save(from_caffe_vgg16(tmp_path / "vgg16.caffemodel"), tmp_path / "converted.pth")
    teacher, student = models(channels, **CAFFE_BGR)
    load(teacher, tmp_path / "converted.pth")
    load(student, tmp_path / "converted.pth")

    pixels = np.random.default_rng(1).integers(0, 256, (224, 224, 3), dtype=np.uint8)  # RGB
    Image.fromarray(pixels).save(tmp_path / "image.png")
    mapper = MultiLabelMapper(is_train=False, num_classes=3, sizes=[224], image_format=student.image_format)
    view = mapper({"file_name": str(tmp_path / "image.png"), "image_id": 0, "labels": [0]})

    x = torch.from_numpy(pixels[:, :, ::-1].astype(np.float32) - np.float32([103.939, 116.779, 123.68]))
    x = x.permute(2, 0, 1)[None]
    for name in VGG16_CONVS:
        if name.endswith("_1") and name != "conv1_1":
            x = F.max_pool2d(x, 2, ceil_mode=True)
        x = F.conv2d(x, *map(torch.from_numpy, layers[name]), padding=1).relu()
    features = student.features([view])
    assert x.std() > 0.01
    torch.testing.assert_close(features["conv5_3"], x, rtol=1e-3, atol=1e-3)
    x = F.max_pool2d(x, 2, ceil_mode=True).flatten(1)
    for name in ("fc6", "fc7"):
        x = F.linear(x, *map(torch.from_numpy, layers[name])).relu()
    torch.testing.assert_close(student.head(features["conv5_3"]), x, rtol=1e-3, atol=1e-3)


def test_caffe_weights_in_a_model_with_torchvisions_normalization_are_an_error(tmp_path):
    channels = (4, 4, 5, 5, 6)
    write_caffemodel(tmp_path / "vgg16.caffemodel", caffe_layers(channels), old=True)
    torch.save(from_caffe_vgg16(tmp_path / "vgg16.caffemodel"), tmp_path / "converted.pth")
    for model in models(channels, **IMAGENET_RGB):
        with pytest.raises(RuntimeError, match="set the model's pixel_mean=.103.939, .* image_format=BGR"):
            load(model, tmp_path / "converted.pth")


def test_weights_of_another_network_are_an_error_that_names_the_keys(tmp_path):
    torch.save({"stem.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other.pth .* 30 of 30 are missing, first 'features.0.weight'.*stem.weight"):
        from_torchvision_vgg16(tmp_path / "other.pth")
    with pytest.raises(ValueError, match="other.pth .*'conv1.weight'"):
        from_torchvision_resnet(tmp_path / "other.pth")


@pytest.mark.parametrize("convert", [from_torchvision_vgg16, from_torchvision_resnet])
def test_a_file_without_weights(convert, tmp_path):
    torch.save(3, tmp_path / "number.pth")
    with pytest.raises(ValueError, match="number.pth has no weights"):
        convert(tmp_path / "number.pth")


@pytest.mark.parametrize("format", ["torchvision-vgg16", "torchvision-resnet", "timm"])
def test_an_invalid_file_is_an_error_that_does_not_suggest_weights_only(format, tmp_path, capsys):
    path = tmp_path / "vgg16.caffemodel"
    write_caffemodel(path, {"fc6": [np.zeros((2, 3), np.float32), np.zeros(2, np.float32)]}, old=True)
    name = ["--name", "resnet18"] if format == "timm" else []
    with pytest.raises(SystemExit):
        in_process("tools/convert_weights.py", format, path, tmp_path / "new.pth", *name)
    text = capsys.readouterr().err
    assert (
        f"error: {path} is truncated or not a file of PyTorch tensors and plain values" in text
        and "weights_only" not in text
    )
    with pytest.raises(ValueError) as caught:
        read_weights(path)
    assert caught.value.__suppress_context__


def test_the_tool_writes_the_file_and_prints_the_normalization(tmp_path, capsys):
    write_caffemodel(tmp_path / "vgg16.caffemodel", caffe_layers((4, 4, 5, 5, 6)), old=True)
    tool = "tools/convert_weights.py"
    in_process(tool, "caffe-vgg16", tmp_path / "vgg16.caffemodel", tmp_path / "new/vgg16.pth")
    assert "34 tensors; set the model's pixel_mean=[103.939, 116.779, 123.68]" in capsys.readouterr().out
    assert (
        len(torch.load(tmp_path / "new/vgg16.pth", weights_only=True)["model"]) == 34
    )  # 13 + 2 layers, 3 entries of the normalization, an empty list of classes
    with pytest.raises(SystemExit):
        in_process(tool, "timm", "x.pth", "y.pth")
    (tmp_path / "classes.txt").write_text("cat\nCat\n")
    with pytest.raises(SystemExit):
        in_process(tool, "checkpoint", "x.pth", tmp_path / "y.pth", "--classes", tmp_path / "classes.txt")
    assert "classes.txt: line 2: class 'Cat' differs from 'cat'" in capsys.readouterr().err
