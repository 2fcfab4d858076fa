"""Stages for Detectron2's ResNet with the strides that torchvision's weights were trained with."""

from __future__ import annotations

from detectron2.modeling.backbone.resnet import BottleneckBlock, ResNet
from torch import nn


def make_stages(*, depth: int, norm: str = "FrozenBN", res5_dilation: int = 1) -> list[list[nn.Module]]:
    """Blocks of res2 to res5; a block's stride is in its 3x3 convolution.

    Args:
        depth: 18, 34, 50, 101 or 152. norm: as Detectron2's ``get_norm`` knows it.
        res5_dilation: 1, or 2 for a res5 with res4's stride, 16, instead of 32 (depths from 50).
    """
    options = {"norm": norm} if depth < 50 else {"norm": norm, "stride_in_1x1": False}
    stages = ResNet.make_default_stages(depth, **options)
    if res5_dilation == 1:
        return stages
    if depth < 50:
        raise ValueError(f"a dilated res5 needs bottleneck blocks: depth is 50, 101 or 152, not {depth}")
    shape = {"in_channels": 1024, "out_channels": 2048, "bottleneck_channels": 512, "stride_per_block": [1, 1, 1]}
    stages[-1] = ResNet.make_stage(BottleneckBlock, 3, dilation=res5_dilation, **shape, **options)
    return stages


def make_res5(*, depth: int, norm: str = "FrozenBN") -> nn.Sequential:
    """res5 alone, the box head of a ResNet that ends with res4 ("C4")."""
    return nn.Sequential(*make_stages(depth=depth, norm=norm)[-1])
