"""A network with folded BatchNorm is the same function of the same parameters."""

import copy

import pytest
import timm
import torch
from timm.layers import FrozenBatchNormAct2d, freeze_batch_norm_2d
from torch import nn
from torchvision.ops.misc import FrozenBatchNorm2d

from wsd_distill.modeling.backbones.folding import FoldedConv2d, FoldedConv2dSame, fold_fixed_norms

FOLDED = (FoldedConv2d, FoldedConv2dSame)


def count(net, types):
    return sum(isinstance(module, types) for module in net.modules())


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "resnet18", "mobilenetv3_small_050"])
def test_outputs_and_gradients(name):
    net = freeze_batch_norm_2d(timm.create_model(name, num_classes=0)).double()
    folded = copy.deepcopy(net)
    image = torch.rand(1, 3, 64, 64, dtype=torch.float64)
    fold_fixed_norms(folded, image)
    assert count(folded, FOLDED) == count(net, (FrozenBatchNormAct2d, FrozenBatchNorm2d)) > 0
    for key, value in net.named_buffers():  # of the norms
        scale = key.endswith(("weight", "running_var"))
        value.uniform_(*((0.5, 1.5) if scale else (-0.1, 0.1)))
    assert folded.training and list(folded.state_dict()) == list(net.state_dict())
    folded.load_state_dict(net.state_dict())
    outputs = [model(image) for model in (net, folded)]
    torch.testing.assert_close(*outputs)
    for output in outputs:
        output.square().sum().backward()
    for (key, x), y in zip(net.named_parameters(), folded.parameters()):
        torch.testing.assert_close(y.grad, x.grad, msg=lambda text, key=key: f"{key}: {text}")
        assert x.grad.abs().sum() > 0, key


def test_copies_and_loaded_weights_keep_their_own_statistics():
    net = nn.Sequential(nn.Conv2d(3, 2, 1, bias=False), FrozenBatchNormAct2d(2, apply_act=False))
    fold_fixed_norms(net, torch.rand(1, 3, 4, 4))
    assert net[1].running_var.tolist() == [1, 1] and net[1].running_mean.tolist() == [0, 0]
    other, image = copy.deepcopy(net), torch.rand(1, 3, 4, 4)
    before = net(image)
    other[1].running_mean += 1
    torch.testing.assert_close(net(image), before)
    torch.testing.assert_close(other(image), before - (1 + 1e-5) ** -0.5)
    for assign in (False, True):
        net.load_state_dict({**other.state_dict(), "0.weight": torch.zeros(2, 3, 1, 1)}, assign=assign)
        assert net(image).unique().allclose(torch.tensor(-((1 + 1e-5) ** -0.5)))


class Branches(nn.Module):
    """Two convolutions that must not be folded: one has a bias, the other's output is used twice."""

    def __init__(self):
        super().__init__()
        self.with_bias, self.shared = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1, bias=False)
        self.first, self.second = FrozenBatchNorm2d(3), FrozenBatchNorm2d(3)
        self.act = nn.ReLU()

    def forward(self, x):
        y = self.shared(self.first(self.with_bias(x)))
        return self.second(y) + self.act(y)


def test_what_is_not_folded():
    net = Branches()
    fold_fixed_norms(net, torch.rand(1, 3, 4, 4))
    assert count(net, FOLDED) == 0


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1, bias=False), FrozenBatchNorm2d(3)

    def forward(self, x):
        y = self.conv(x)
        return self.norm(y) + y


def test_a_use_that_no_module_shows_is_an_error():
    with pytest.raises(ValueError, match="differs with BatchNorm folded"):
        fold_fixed_norms(Residual(), torch.rand(1, 3, 4, 4))
