"""Detectron2's ResNets with converted weights equal torchvision's."""

import pytest
import torch
import torchvision
from detectron2.modeling.backbone import BasicStem, ResNet
from torch import nn

from wsd_distill.modeling import StageHead, make_res5, make_stages
from wsd_distill.modeling.checkpoints.converters import from_torchvision_resnet


@pytest.fixture(scope="module", params=[18, 50])
def both(request, tmp_path_factory):
    """Depth, torchvision's network without classifier, and its converted weights."""
    torch.manual_seed(0)
    net = getattr(torchvision.models, f"resnet{request.param}")(weights=None).eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
            module.weight.data.uniform_(0.2, 0.8)
            module.bias.data.normal_(std=0.1)
    path = tmp_path_factory.mktemp("weights") / "resnet.pth"
    torch.save(net.state_dict(), path)
    net.fc = nn.Identity()
    return request.param, net, from_torchvision_resnet(path)["model"]


def load(module, prefix, weights):
    """Load with all keys matched, except res5 if it is in the other part."""
    state = {key[len(prefix) :]: value for key, value in weights.items() if key.startswith(prefix)}
    found = module.load_state_dict(state, strict=False)
    assert not found.missing_keys and all(key.startswith("res5.") for key in found.unexpected_keys)
    return module.eval()


def build(depth, feature, weights, **options):
    stem = BasicStem(norm="FrozenBN")
    return load(ResNet(stem, make_stages(depth=depth, **options), out_features=[feature]), "backbone.", weights)


@torch.no_grad()
def test_res4_and_res5_as_a_head(both):
    depth, net, weights = both
    backbone = build(depth, "res4", weights)
    head = load(StageHead(stage=make_res5(depth=depth), output_size=net.inplanes), "head.", weights)
    image = torch.rand(2, 3, 64, 96)
    feature = backbone(image)["res4"]
    assert backbone.output_shape()["res4"].stride == 16 and feature.shape[2:] == (4, 6)
    vectors = head(feature)
    assert vectors.shape == (2, head.output_size) and vectors.std() > 1e-3
    torch.testing.assert_close(vectors, net(image), rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_res5_in_the_backbone(both):
    depth, net, weights = both
    image = torch.rand(2, 3, 64, 96)
    expected = nn.Sequential(*list(net.children())[:-2])(image)
    torch.testing.assert_close(build(depth, "res5", weights)(image)["res5"], expected, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_dilated_res5_has_stride_16(both):
    """Equal to torchvision's dilated network, whose first block is adapted: it has the dilation of layer3."""
    depth, net, weights = both
    if depth < 50:
        with pytest.raises(ValueError, match="got 18"):
            make_stages(depth=depth, res5_dilation=2)
        return
    dilated = torchvision.models.resnet50(weights=None, replace_stride_with_dilation=[False, False, True]).eval()
    dilated.load_state_dict(net.state_dict(), strict=False)
    dilated.layer4[0].conv2.dilation = dilated.layer4[0].conv2.padding = (2, 2)
    image = torch.rand(1, 3, 64, 96)
    backbone = build(depth, "res5", weights, res5_dilation=2)
    feature = backbone(image)["res5"]
    assert backbone.output_shape()["res5"].stride == 16 and feature.shape == (1, 2048, 4, 6)
    torch.testing.assert_close(feature, nn.Sequential(*list(dilated.children())[:-2])(image), rtol=1e-3, atol=1e-4)


def test_frozen_batchnorm(both):
    backbone = build(both[0], "res4", both[2])
    assert not any("norm" in name for name, _ in backbone.named_parameters())
