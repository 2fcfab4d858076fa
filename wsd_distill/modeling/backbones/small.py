"""A small VGG-like network, trained from scratch."""

from __future__ import annotations

from detectron2.layers import Conv2d, ShapeSpec, get_norm
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from torch import nn


class SmallConvNet(Backbone):
    """Blocks of 3x3 convolutions with 2x2 max pooling between them.

    Block i, counted from 1, outputs the feature map ``conv<i>`` with stride ``2 ** (i - 1)``.

    Args:
        channels: output channels of each block.
        convs: number of convolutions in each block.
        norm: normalization, as in Detectron2's ``get_norm``; "" for none.
        in_channels: channels of the image.

    Raises:
        ValueError: ``channels`` and ``convs`` differ in length.
    """

    def __init__(self, *, channels: list[int], convs: list[int], norm: str = "BN", in_channels: int = 3):
        super().__init__()
        if len(channels) != len(convs):
            raise ValueError(f"channels has {len(channels)} blocks but convs has {len(convs)}")
        self._out_features = [f"conv{i}" for i in range(1, len(channels) + 1)]
        self._out_feature_channels = dict(zip(self._out_features, channels))
        self._out_feature_strides = {name: 2**i for i, name in enumerate(self._out_features)}
        for i, name in enumerate(self._out_features):
            self.add_module(name, _block(in_channels, channels[i], convs[i], norm, pool=i > 0))
            in_channels = channels[i]

    def forward(self, x):
        """Map (N, in_channels, H, W) to ``{"conv<i>": (N, channels[i - 1], H / 2 ** (i - 1), W / 2 ** (i - 1))}``."""
        features = {}
        for name in self._out_features:
            x = features[name] = getattr(self, name)(x)
        return features


def _block(in_channels: int, channels: int, convs: int, norm: str, pool: bool) -> nn.Sequential:
    layers = [nn.MaxPool2d(2)] if pool else []
    for _ in range(convs):
        options = {"bias": not norm, "norm": get_norm(norm, channels), "activation": nn.ReLU()}
        conv = Conv2d(in_channels, channels, 3, padding=1, **options)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        layers.append(conv)
        in_channels = channels
    return nn.Sequential(*layers)


@BACKBONE_REGISTRY.register()
def build_small_conv_net(cfg, input_shape: ShapeSpec) -> SmallConvNet:
    """Build SmallConvNet from ``cfg.MODEL.SMALL_CONV_NET`` of a YAML config."""
    node = cfg.MODEL.SMALL_CONV_NET
    return SmallConvNet(channels=node.CHANNELS, convs=node.CONVS, norm=node.NORM, in_channels=input_shape.channels)
