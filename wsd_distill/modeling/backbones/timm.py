"""timm networks, split into a backbone with feature maps and a head that follows one of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import timm
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from timm.layers import freeze_batch_norm_2d
from torch import Tensor, nn

from ..freezing import freeze
from .folding import fold_fixed_norms


@dataclass
class ModuleSequence:
    """A timm network as a sequence of modules.

    Attributes:
        net: timm's network without its classifier; its ``forward`` is not used.
        steps: dotted names of the modules in order of execution, global pooling included.
        maps: ``stride<s>`` -> (step that outputs the feature map, shape of the map).
        output_size: length of the output vector.
    """

    net: nn.Module
    steps: list[str]
    maps: dict[str, tuple[str, ShapeSpec]]
    output_size: int

    def position(self, feature: str) -> int:
        """Return the number of steps up to a feature map."""
        if feature not in self.maps:
            raise ValueError(f"this network has no feature map {feature!r}; it has {list(self.maps)}")
        return self.steps.index(self.maps[feature][0]) + 1


def build_module_sequence(name: str, frozen_bn: bool) -> ModuleSequence:
    """Build timm's network ``name`` with random weights.

    Raises:
        ValueError: timm has no such network, or its modules do not form a sequence (e.g. vision transformers).
    """
    if not timm.is_model(name):
        raise ValueError(f"timm {timm.__version__} has no network {name!r}: see timm.list_models()")
    net = timm.create_model(name, pretrained=False, num_classes=0)
    try:
        sequence = _find_sequence(net)
    except (RuntimeError, TypeError, ValueError, AssertionError, NotImplementedError) as error:
        raise ValueError(
            f"timm's {name!r} is not supported as a backbone: its modules fail when called one after another, or have "
            f"unsuitable feature maps ({error}). Use a network whose modules form a sequence with feature maps "
            "(N, C, h, w), for example resnet50, tf_efficientnet_lite0 or convnext_tiny."
        ) from error
    if frozen_bn:
        sequence.net = freeze_batch_norm_2d(net)
        fold_fixed_norms(sequence.net, torch.rand(1, 3, 128, 128))
    return sequence


@torch.no_grad()
def _find_sequence(net: nn.Module) -> ModuleSequence:
    """List the modules, and compare their output with the network's and map shapes with timm's ``feature_info``."""
    infos = cast(list, net.feature_info)
    shapes = {x["module"]: ShapeSpec(x["num_chs"], stride=x["reduction"]) for x in infos}
    maps = {f"stride{shape.stride}": (step, shape) for step, shape in shapes.items()}
    if len(maps) < len(infos):
        raise ValueError(f"its feature maps have the strides {[x['reduction'] for x in infos]}")
    steps: list[str] = []
    for name, child in net.named_children():
        if isinstance(child, nn.Sequential) and name not in shapes:  # expanded unless it outputs a feature map
            steps += (f"{name}.{inner}" for inner, _ in child.named_children())
        else:
            steps.append(name)
    if any(step not in steps for step in shapes):
        raise ValueError("some of its feature maps are inside a block")
    net.eval()
    x = image = torch.rand(1, 3, 128, 128)
    expected = {step: (shape.channels, *[-(-128 // shape.stride)] * 2) for step, shape in shapes.items()}
    for step in steps:
        x = net.get_submodule(step)(x)
        if step in shapes and tuple(x.shape[1:]) != expected[step]:
            raise ValueError(f"{step} outputs {tuple(x.shape[1:])}, expected {expected[step]}")
    if not torch.allclose(x, net(image), rtol=1e-4):
        raise ValueError("the output differs from the network's output")
    net.train()
    return ModuleSequence(net, steps, maps, output_size=x.shape[1])


def _drop(net: nn.Module, steps: list[str]) -> None:
    """Replace unused modules by Identity."""
    for step in steps:
        parent, _, leaf = step.rpartition(".")
        setattr(net.get_submodule(parent), leaf, nn.Identity())


class TimmBackbone(Backbone):
    """A timm network up to the last of ``out_features``.

    Args:
        name: name in timm, e.g. "resnet50".
        out_features: feature maps to return, named by stride: ``["stride8", "stride16"]``.
        frozen_bn: use BatchNorm with fixed statistics and affine parameters.
        frozen_to: feature map up to which the layers are not trained; None trains all.

    Raises:
        ValueError: the network has no such feature map, or ``frozen_to`` leaves nothing of the backbone to train.
    """

    def __init__(self, *, name: str, out_features: list[str], frozen_bn: bool = True, frozen_to: str | None = None):
        super().__init__()
        sequence = build_module_sequence(name, frozen_bn)
        last = max(sequence.position(feature) for feature in out_features)
        _drop(sequence.net, sequence.steps[last:])
        self.net, self.steps = sequence.net, sequence.steps[:last]
        frozen = self.steps[: sequence.position(frozen_to)] if frozen_to else []
        if len(frozen) == last:
            raise ValueError(
                f"frozen_to={frozen_to!r} leaves no layer of the backbone to train: set train.frozen_to (or "
                "model.backbone.frozen_to) to a map before the last one, or to null"
            )
        for step in frozen:
            freeze(self.net.get_submodule(step))
        self._out_features = list(out_features)
        self._shapes = {feature: sequence.maps[feature][1] for feature in out_features}
        self._names = {sequence.maps[feature][0]: feature for feature in out_features}

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Map (N, 3, H, W) to ``{"stride<s>": (N, C, H / s, W / s)}``."""
        features = {}
        for step in self.steps:
            x = self.net.get_submodule(step)(x)
            if step in self._names:
                features[self._names[step]] = x
        return features

    def output_shape(self) -> dict[str, ShapeSpec]:
        return self._shapes


def maps_up_to(last: str) -> list[str]:
    """Return ``["stride8", "stride16", ...]`` up to ``last``: maps of a TimmBackbone that ends there.

    Raises:
        ValueError: ``last`` is not one of these maps.
    """
    names = ["stride8", "stride16", "stride32"]
    if last not in names:
        raise ValueError(f"no feature map {last!r}: set train.in_feature to one of {', '.join(names)}")
    return names[: names.index(last) + 1]


class TimmHead(nn.Module):
    """The part of a timm network after ``in_feature``, up to its global pooling.

    The input is an RoI-pooled map in T-WDet and the map of the whole image in S-Cls.

    Args:
        name, frozen_bn: as in TimmBackbone.
        in_feature: feature map that is the input of the head.
    """

    def __init__(self, *, name: str, in_feature: str = "stride16", frozen_bn: bool = True):
        super().__init__()
        sequence = build_module_sequence(name, frozen_bn)
        first = sequence.position(in_feature)
        _drop(sequence.net, sequence.steps[:first])
        self.net, self.steps, self.output_size = sequence.net, sequence.steps[first:], sequence.output_size

    def forward(self, x: Tensor) -> Tensor:
        """Map (M, C, h, w) to (M, output_size)."""
        for step in self.steps:
            x = self.net.get_submodule(step)(x)
        return x


@BACKBONE_REGISTRY.register()
def build_timm_backbone(cfg, input_shape: ShapeSpec) -> TimmBackbone:
    """Build TimmBackbone from ``cfg.MODEL.TIMM`` of a YAML config."""
    node = cfg.MODEL.TIMM
    return TimmBackbone(name=node.NAME, out_features=node.OUT_FEATURES, frozen_bn=node.FROZEN_BN)
