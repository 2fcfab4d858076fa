"""Heads: from the feature map of an RoI or of the whole image to a feature vector."""

from __future__ import annotations

from collections import OrderedDict

from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from .backbones.resnet import make_res5
from .backbones.timm import TimmHead


class FCHead(nn.Sequential):
    """Fully connected layers fc6, fc7, ... with ReLU and dropout, as in VGG16.

    The input is (M, C, h, w), the output (M, ``output_size``).

    Args:
        input_shape: (C, h, w) of the feature map.
        dims: width of each layer.
        dropout: dropout probability after each layer.
        pool: kernel size and stride of max pooling before fc6, as pool5 for a whole image; 1 for none.
        batch_norm: use BatchNorm before each ReLU, for training from scratch.
    """

    def __init__(
        self,
        *,
        input_shape: tuple[int, int, int],
        dims: list[int],
        dropout: float = 0.5,
        pool: int = 1,
        batch_norm: bool = False,
    ):
        channels, h, w = input_shape
        layers = OrderedDict(pool=nn.MaxPool2d(pool), flatten=nn.Flatten())
        width = channels * (h // pool) * (w // pool)
        for i, dim in enumerate(dims, start=6):
            linear = nn.Linear(width, dim)
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)
            norm = {f"norm{i}": nn.BatchNorm1d(dim)} if batch_norm else {}
            layers.update({f"fc{i}": linear, **norm, f"relu{i}": nn.ReLU(), f"drop{i}": nn.Dropout(dropout)})
            width = dim
        super().__init__(layers)
        self.output_size = width


class GlobalPoolHead(nn.Module):
    """Global pooling, (M, C, h, w) -> (M, C); ``mode`` is "avg" or "max"."""

    def __init__(self, *, channels: int, mode: str = "avg"):
        super().__init__()
        if mode not in ("avg", "max"):
            raise ValueError(f'mode must be "avg" or "max", got {mode!r}')
        self.mode, self.output_size = mode, channels

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)) if self.mode == "avg" else x.amax((2, 3))


class StageHead(nn.Module):
    """A last stage, (M, C, h, w) -> (M, ``output_size``, h', w'), followed by global average pooling."""

    def __init__(self, *, stage: nn.Module, output_size: int):
        super().__init__()
        self.stage, self.output_size = stage, output_size

    def forward(self, x: Tensor) -> Tensor:
        return self.stage(x).mean((2, 3))


def build_head(cfg, shape: ShapeSpec, size: int, pool: int = 1) -> nn.Module:
    """Build the head ``cfg.MODEL.IMAGE_LEVEL.HEAD`` of a YAML config.

    "fc", "avg" or "max"; "res5" after res4 of a ResNet; "timm" for the layers after IN_FEATURE in ``cfg.MODEL.TIMM``.

    Args:
        cfg: config with the keys of ``add_wsd_distill_config``.
        shape: shape of the backbone's feature map.
        size: height and width of the head's input.
        pool: as in FCHead.
    """
    node, name = cfg.MODEL.IMAGE_LEVEL, cfg.MODEL.IMAGE_LEVEL.HEAD
    if name == "fc":
        options = {"dims": node.FC_DIMS, "dropout": node.DROPOUT, "batch_norm": node.BATCH_NORM}
        return FCHead(input_shape=(shape.channels, size, size), pool=pool, **options)
    if name == "res5":
        stage = make_res5(depth=cfg.MODEL.RESNETS.DEPTH, norm=cfg.MODEL.RESNETS.NORM)
        return StageHead(stage=stage, output_size=2 * shape.channels)
    if name == "timm":
        timm = cfg.MODEL.TIMM
        return TimmHead(name=timm.NAME, in_feature=node.IN_FEATURE, frozen_bn=timm.FROZEN_BN)
    return GlobalPoolHead(channels=shape.channels, mode=name)
