"""Backbone and head together equal timm's network, for each family."""

import pytest
import timm
import torch
from torch import nn

from wsd_distill.modeling import TimmBackbone, TimmHead
from wsd_distill.modeling.checkpoints.converters import from_timm

MAPS = {  # channels at strides 8 and 16, length of the vector
    "resnet50": (512, 1024, 2048),
    "resnet101": (512, 1024, 2048),
    "tf_efficientnet_lite0": (40, 112, 1280),
    "convnext_tiny": (192, 384, 768),
    "mobilenetv3_small_050": (16, 24, 1024),  # has a convolution after global pooling
}


def timm_network(name):
    """Build a timm network with BatchNorm statistics as after training."""
    net = timm.create_model(name, num_classes=0).eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    return net


def load(module, part, weights):
    state = {key[len(part) + 1 :]: value for key, value in weights.items() if key.startswith(f"{part}.")}
    missing = module.load_state_dict(state, strict=False).missing_keys
    assert all(key.endswith("num_batches_tracked") for key in missing)
    return module.eval()


@pytest.mark.parametrize("name", MAPS)
@torch.no_grad()
def test_backbone_and_head_with_converted_weights_equal_the_network(name, tmp_path):
    net, frozen = timm_network(name), name != "resnet50"
    torch.save(net.state_dict(), tmp_path / "timm.pth")
    weights = from_timm(tmp_path / "timm.pth", name=name)["model"]
    backbone = load(
        TimmBackbone(name=name, out_features=["stride8", "stride16"], frozen_bn=frozen), "backbone", weights
    )
    head = load(TimmHead(name=name, frozen_bn=frozen), "head", weights)
    image = torch.rand(2, 3, 64, 96)
    features = backbone(image)
    assert {key: tuple(x.shape[1:]) for key, x in features.items()} == {
        "stride8": (MAPS[name][0], 8, 12),
        "stride16": (MAPS[name][1], 4, 6),
    }
    assert {k: (s.channels, s.stride) for k, s in backbone.output_shape().items()} == {
        "stride8": (MAPS[name][0], 8),
        "stride16": (MAPS[name][1], 16),
    }
    vectors = head(features["stride16"])
    assert vectors.std() > 1e-3 and vectors.shape[1] == head.output_size == MAPS[name][2]
    torch.testing.assert_close(vectors, net(image), rtol=1e-3, atol=1e-4)
    # each parameter is in exactly one part
    parameters = [sum(p.numel() for p in [*m.parameters(), *m.buffers()] if p.ndim) for m in (backbone, head, net)]
    assert parameters[0] + parameters[1] == parameters[2]


def test_frozen_batchnorm_is_constant():
    name = "tf_efficientnet_lite0"
    for frozen in (True, False):
        backbone = TimmBackbone(name=name, out_features=["stride16"], frozen_bn=frozen).train()
        before = {key: value.clone() for key, value in backbone.state_dict().items()}
        backbone(torch.rand(2, 3, 64, 64))
        moved = {key for key, value in backbone.state_dict().items() if not torch.equal(value, before[key])}
        assert ("net.bn1.running_mean" in moved) != frozen
        assert ("net.bn1.weight" in dict(backbone.named_parameters())) != frozen


@pytest.mark.parametrize(
    "name, reason", [("vit_tiny_patch16_224", "strides .16, 16"), ("hrnet_w18_small", "inside a block")]
)
def test_networks_that_are_not_sequential(name, reason):
    with pytest.raises(ValueError, match=f"'{name}' is not supported as a backbone: .*{reason}.*for example resnet50"):
        TimmBackbone(name=name, out_features=["stride16"])


def test_a_network_whose_modules_fail_in_sequence():
    with pytest.raises(ValueError, match="fail when called one after another"):
        TimmHead(name="efficientformerv2_s0")


def test_unknown_names():
    with pytest.raises(ValueError, match="no network 'resnet5'"):
        TimmBackbone(name="resnet5", out_features=["stride16"])
    with pytest.raises(ValueError, match="no feature map 'stride1'; it has .*stride16"):
        TimmBackbone(name="tf_efficientnet_lite0", out_features=["stride1"])


def test_layers_up_to_a_map_are_frozen_and_some_must_be_left():
    name = "tf_efficientnet_lite0"
    backbone = TimmBackbone(name=name, out_features=["stride8", "stride16"], frozen_to="stride8").train()
    trained = {name.split(".")[2] for name, p in backbone.named_parameters() if p.requires_grad}
    assert trained == {"3", "4"}
    with pytest.raises(ValueError, match="frozen_to='stride16' leaves no layer of the backbone to train: set train"):
        TimmBackbone(name=name, out_features=["stride16"], frozen_to="stride16")
