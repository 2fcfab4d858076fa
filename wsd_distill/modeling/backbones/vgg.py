"""Convolutional layers of VGG16, the backbone of the paper."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from detectron2.layers import Conv2d, ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from fvcore.nn.weight_init import c2_msra_fill
from torch import Tensor

CONVS = (2, 2, 3, 3, 3)  # number of convolutions in each block


def conv_names(block: int) -> list[str]:
    """Return the Caffe names of the convolutions of a block, e.g. conv5_1, conv5_2, conv5_3 for block 5."""
    return [f"conv{block}_{i}" for i in range(1, CONVS[block - 1] + 1)]


class VGG16(Backbone):
    """conv1_1 to conv5_3, each with ReLU; pool5 is part of the head of S-Cls.

    conv5_3 has stride 16. Pooling rounds sizes down, as in torchvision. Caffe rounds up, with the same result for
    image sizes divisible by 16, such as those of the paper.

    Args:
        out_features: names of the feature maps to return, e.g. ``["conv3_3", "conv4_3", "conv5_3"]``.
        freeze_at: number of blocks, from the first, that are not trained; 2 freezes conv1_1 to conv2_2.
        channels: output channels of each block.

    Raises:
        ValueError: ``out_features`` has an unknown name.
    """

    def __init__(self, *, out_features: list[str], freeze_at: int = 0, channels: tuple = (64, 128, 256, 512, 512)):
        super().__init__()
        self._out_features = list(out_features)
        self._out_feature_channels, self._out_feature_strides = {}, {}
        in_channels = 3
        for block, width in enumerate(channels, start=1):
            for name in conv_names(block):
                conv = Conv2d(in_channels, width, 3, padding=1, activation=torch.relu_)  # in place, to save memory
                c2_msra_fill(conv)
                self.add_module(name, conv.requires_grad_(block > freeze_at))
                self._out_feature_channels[name], self._out_feature_strides[name] = width, 2 ** (block - 1)
                in_channels = width
        unknown = [name for name in out_features if name not in self._out_feature_channels]
        if unknown:
            raise ValueError(f"VGG16 has no feature maps {unknown}; it has {list(self._out_feature_channels)}")

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Map (N, 3, H, W) to ``{name: (N, C, H / stride, W / stride)}``."""
        features = {}
        for block in range(1, len(CONVS) + 1):
            x = F.max_pool2d(x, 2) if block > 1 else x
            for name in conv_names(block):
                x = getattr(self, name)(x)
                if name in self._out_features:
                    features[name] = x
        return features


@BACKBONE_REGISTRY.register()
def build_vgg16_backbone(cfg, input_shape: ShapeSpec) -> VGG16:
    """Build VGG16 from ``cfg.MODEL.VGG16`` and ``cfg.MODEL.BACKBONE.FREEZE_AT`` of a YAML config."""
    return VGG16(out_features=cfg.MODEL.VGG16.OUT_FEATURES, freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT)
