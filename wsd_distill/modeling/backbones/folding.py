"""Fixed BatchNorm folded into the convolutions before it: the same network and gradients in less time and memory.

``conv(x, W) * s + b = conv(x, s W) + b``: the multiplication moves from the feature map to the weights, which stay the
parameters that are trained and saved. Keys and values of the ``state_dict`` do not change.
"""

from __future__ import annotations

from collections import Counter
from typing import cast

import torch
from timm.layers import FrozenBatchNormAct2d
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn
from torchvision.ops.misc import FrozenBatchNorm2d


class _Folded(nn.Conv2d):
    """A convolution whose weight and bias, when they are read, include the BatchNorm that follows."""

    norm: tuple[nn.Module]  # in a tuple: it is no submodule

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        return cast(Tensor, self._parameters["weight"]) * self._scale()[:, None, None, None]

    @property
    def bias(self) -> Tensor:  # type: ignore[override]
        (norm,) = self.norm
        return cast(Tensor, norm.bias) - cast(Tensor, norm.running_mean) * self._scale()

    def _scale(self) -> Tensor:
        (norm,) = self.norm
        return cast(Tensor, norm.weight) * (cast(Tensor, norm.running_var) + cast(float, norm.eps)).rsqrt()


class FoldedConv2d(_Folded):
    """PyTorch's convolution with the BatchNorm that follows."""


class FoldedConv2dSame(_Folded, Conv2dSame):
    """The convolution of timm's TensorFlow networks with the BatchNorm that follows."""


class FoldedNorm(FrozenBatchNorm2d):
    """What is left of a folded BatchNorm: nothing."""

    def forward(self, x: Tensor) -> Tensor:
        return x


class FoldedNormAct(FrozenBatchNormAct2d):
    """What is left of a folded BatchNorm with an activation: the activation."""

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.drop(x))


_FOLDED: dict[type, type] = {
    nn.Conv2d: FoldedConv2d,
    Conv2dSame: FoldedConv2dSame,
    FrozenBatchNorm2d: FoldedNorm,
    FrozenBatchNormAct2d: FoldedNormAct,
}


@torch.no_grad()
def fold_fixed_norms(net: nn.Module, image: Tensor) -> None:
    """Fold each of timm's fixed BatchNorms into the convolution whose output it alone takes.

    Args:
        net: network of timm without trained weights; its statistics are reset.
        image: (1, 3, H, W), to see which modules follow one another.

    Raises:
        ValueError: the network computes something else afterwards.
    """
    norms = [m for m in net.modules() if type(m) in (FrozenBatchNorm2d, FrozenBatchNormAct2d)]
    for norm in norms:  # not the identity, for the comparison
        norm.running_mean.uniform_(-0.1, 0.1)  # type: ignore[operator]
        norm.running_var.uniform_(0.8, 1.2)  # type: ignore[operator]
    was_training = net.training
    net.eval()
    pairs, expected = _find_pairs(net, image)
    for conv, norm in pairs:
        conv.norm = (norm,)  # type: ignore[assignment]
        for module in (conv, norm):
            module.__class__ = _FOLDED[type(module)]
    if not torch.allclose(net(image), expected, rtol=1e-3, atol=1e-5):
        raise ValueError("its output differs with BatchNorm folded into the convolutions")
    for norm in norms:
        norm.running_mean.zero_()  # type: ignore[operator]
        norm.running_var.fill_(1)  # type: ignore[operator]
    net.train(was_training)


def _find_pairs(net: nn.Module, image: Tensor) -> tuple[list[tuple[nn.Module, nn.Module]], Tensor]:
    """Return pairs of a convolution and the norm that alone takes its output, and the output of the network."""
    outputs: dict[int, nn.Module] = {}
    kept: list[object] = []  # all tensors, so that no id is used twice
    takers: Counter[int] = Counter()
    calls: Counter[nn.Module] = Counter()
    found: dict[int, nn.Module] = {}

    def before(module: nn.Module, args: tuple) -> None:
        kept.extend(args)
        takers.update(id(x) for x in args)
        calls[module] += 1
        if type(module) in (FrozenBatchNorm2d, FrozenBatchNormAct2d):
            found[id(args[0])] = module

    def after(module: nn.Module, args: tuple, output: Tensor) -> None:
        if type(module) in (nn.Conv2d, Conv2dSame):
            kept.append(output)
            outputs[id(output)] = module

    leaves = [m for m in net.modules() if not list(m.children()) or type(m) in _FOLDED]
    hooks = [hook for m in leaves for hook in (m.register_forward_pre_hook(before), m.register_forward_hook(after))]
    expected = net(image)
    for hook in hooks:
        hook.remove()
    pairs = [(outputs[key], norm) for key, norm in found.items() if key in outputs and takers[key] == 1]
    return [(c, n) for c, n in pairs if c.bias is None and calls[c] == calls[n] == 1], expected
