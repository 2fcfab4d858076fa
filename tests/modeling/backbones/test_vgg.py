import pytest
import torch

from wsd_distill.modeling import VGG16

NARROW = (4, 5, 6, 7, 8)


def test_names_channels_and_strides():
    backbone = VGG16(out_features=["conv1_2", "conv3_3", "conv4_3", "conv5_3"], channels=NARROW)
    shapes = {name: (s.channels, s.stride) for name, s in backbone.output_shape().items()}
    assert shapes == {"conv1_2": (4, 1), "conv3_3": (6, 4), "conv4_3": (7, 8), "conv5_3": (8, 16)}
    features = backbone(torch.rand(2, 3, 64, 96))
    assert {name: tuple(x.shape) for name, x in features.items()} == {
        "conv1_2": (2, 4, 64, 96),
        "conv3_3": (2, 6, 16, 24),
        "conv4_3": (2, 7, 8, 12),
        "conv5_3": (2, 8, 4, 6),
    }
    assert all((x >= 0).all() and (x == 0).any() for x in features.values())  # after ReLU


def test_number_of_parameters():
    with torch.device("meta"):
        backbone = VGG16(out_features=["conv5_3"])
    assert sum(p.numel() for p in backbone.parameters()) == 14_714_688  # the published network's 13 convolutions
    assert len(list(backbone.parameters())) == 26


def test_freezing_conv1_and_conv2():
    backbone = VGG16(out_features=["conv5_3"], channels=NARROW, freeze_at=2)
    frozen = {name.split(".")[0] for name, p in backbone.named_parameters() if not p.requires_grad}
    assert frozen == {"conv1_1", "conv1_2", "conv2_1", "conv2_2"}
    backbone(torch.rand(1, 3, 32, 32))["conv5_3"].sum().backward()
    assert backbone.conv2_2.weight.grad is None and backbone.conv3_1.weight.grad.abs().max() > 0


def test_in_place_relu_keeps_features_and_gradients():
    names = ["conv1_2", "conv3_3", "conv5_3"]
    backbone = VGG16(out_features=names, channels=NARROW)
    x = torch.rand(1, 3, 32, 32)
    found = backbone(x)
    sum(y.square().sum() for y in found.values()).backward()
    gradients = [p.grad.clone() for p in backbone.parameters()]
    backbone.zero_grad()
    for conv in backbone.children():
        conv.activation = torch.relu
    plain = backbone(x)
    sum(y.square().sum() for y in plain.values()).backward()
    assert all(torch.equal(found[name], plain[name]) for name in names)
    assert all(torch.equal(gradient, p.grad) for gradient, p in zip(gradients, backbone.parameters()))


def test_a_convolution_and_its_relu_share_memory():
    conv, seen = VGG16(out_features=["conv5_3"], channels=NARROW).conv1_2, []
    relu, conv.activation = conv.activation, lambda x: seen.append(x.data_ptr()) or relu(x)
    assert conv(torch.rand(1, 4, 8, 8)).data_ptr() == seen[0]


def test_an_unknown_feature():
    with pytest.raises(ValueError, match=r"no feature maps \['res4'\].*conv5_3"):
        VGG16(out_features=["res4"], channels=NARROW)
