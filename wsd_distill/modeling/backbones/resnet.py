"""Stages of Detectron2's ResNet with the strides of torchvision's weights."""

from __future__ import annotations

from detectron2.modeling.backbone.resnet import BottleneckBlock, ResNet
from torch import nn


def make_stages(*, depth: int, norm: str = "FrozenBN", res5_dilation: int = 1) -> list[list[nn.Module]]:
    """Build the blocks of res2 to res5, with the stride in the 3x3 convolution.

    Args:
        depth: 18, 34, 50, 101 or 152.
        norm: normalization, as in Detectron2's ``get_norm``.
        res5_dilation: 1, or 2 for res5 with stride 16 instead of 32 (depth 50 or more).

    Raises:
        ValueError: Dilation with a depth below 50.
    """
    options = {"norm": norm} if depth < 50 else {"norm": norm, "stride_in_1x1": False}
    stages = ResNet.make_default_stages(depth, **options)
    if res5_dilation == 1:
        return stages
    if depth < 50:
        raise ValueError(f"a dilated res5 needs bottleneck blocks: depth must be 50, 101 or 152, got {depth}")
    shape = {"in_channels": 1024, "out_channels": 2048, "bottleneck_channels": 512, "stride_per_block": [1, 1, 1]}
    stages[-1] = ResNet.make_stage(BottleneckBlock, 3, dilation=res5_dilation, **shape, **options)
    return stages


def make_res5(*, depth: int, norm: str = "FrozenBN") -> nn.Sequential:
    """Build res5 alone, the box head of a ResNet-C4."""
    return nn.Sequential(*make_stages(depth=depth, norm=norm)[-1])
