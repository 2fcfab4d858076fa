"""Networks of timm: feature maps for RoI pooling and, as a head, what follows one of them."""

from __future__ import annotations

from dataclasses import dataclass

import timm
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from timm.layers import freeze_batch_norm_2d
from torch import Tensor, nn


@dataclass
class ModuleSequence:
    """A network as a row of modules, each of which takes what the one before it gives.

    Attributes:
        net: timm's network without its classifier; the row calls its modules and leaves its ``forward`` alone.
        steps: dotted names of the modules, in the order of use, the global pooling among them.
        maps: ``stride<s>`` -> the step that gives the map, and its shape.
        output_size: length of the vector at the end.
    """

    net: nn.Module
    steps: list[str]
    maps: dict[str, tuple[str, ShapeSpec]]
    output_size: int = 0

    def position(self, feature: str) -> int:
        """How many steps it takes to a map."""
        if feature not in self.maps:
            raise ValueError(f"this network has no map {feature!r}; it has {list(self.maps)}")
        return self.steps.index(self.maps[feature][0]) + 1


def build_module_sequence(name: str, frozen_bn: bool) -> ModuleSequence:
    """timm's network ``name`` with random weights.

    Raises:
        ValueError: timm has no such network, or its maps do not lie in a row, as with vision transformers.
    """
    if not timm.is_model(name):
        raise ValueError(f"timm {timm.__version__} has no network {name!r}: timm.list_models() names those it has")
    net = timm.create_model(name, pretrained=False, num_classes=0)
    infos = [{"module": x["module"], "channels": x["num_chs"], "stride": x["reduction"]} for x in net.feature_info]
    steps = list(_steps(net, [x["module"] for x in infos]))
    maps = {f"stride{x['stride']}": (x["module"], ShapeSpec(x["channels"], stride=x["stride"])) for x in infos}
    if len(maps) < len(infos):
        raise _not_sequential(name, f"its maps have the strides {[x['stride'] for x in infos]}")
    if any(step not in steps for step, _ in maps.values()):
        raise _not_sequential(name, "some of its maps come from within a block")
    chain = ModuleSequence(net, steps, maps)
    try:
        _check(chain)
    except (RuntimeError, TypeError, ValueError, AssertionError, NotImplementedError) as error:
        raise _not_sequential(name, f"its modules, called one after another, fail ({error})") from error
    if frozen_bn:
        chain.net = freeze_batch_norm_2d(net)
    return chain


def _not_sequential(name: str, why: str) -> ValueError:
    return ValueError(
        f"timm's {name!r} cannot be a backbone here: {why}. Regions are pooled from maps (N, C, h, w) that lie in a "
        "row, as vision transformers have none. Take a convolutional network, for example resnet50, "
        "tf_efficientnet_lite0 or convnext_tiny."
    )


def _steps(net: nn.Module, features: list[str]):
    """Names of the modules in the order of use; a row within the row is opened, unless it gives a map as a whole."""
    for name, child in net.named_children():
        if isinstance(child, nn.Sequential) and name not in features:
            yield from (f"{name}.{inner}" for inner, _ in child.named_children())
        else:
            yield name


@torch.no_grad()
def _check(chain: ModuleSequence) -> None:
    """On one image, compare the row with the network's own ``forward`` and the maps with what timm says of them."""
    side, net = 128, chain.net.eval()
    x = image = torch.rand(1, 3, side, side)
    shapes = {step: (shape.channels, *[-(-side // shape.stride)] * 2) for step, shape in chain.maps.values()}
    for step in chain.steps:
        x = net.get_submodule(step)(x)
        if step in shapes and tuple(x.shape[1:]) != shapes[step]:
            raise ValueError(f"{step} gives {tuple(x.shape[1:])}, not {shapes[step]}")
    if not torch.allclose(x, net(image), rtol=1e-4):
        raise ValueError("they do not give what the network gives")
    chain.output_size = x.shape[1]
    net.train()


def _drop(net: nn.Module, steps: list[str]) -> None:
    """Put nothing instead of modules that are not called."""
    for step in steps:
        parent, _, leaf = step.rpartition(".")
        setattr(net.get_submodule(parent), leaf, nn.Identity())


class TimmBackbone(Backbone):
    """A network of timm up to the last of the maps that are wanted.

    Args:
        name: as timm has it, for example "resnet50".
        out_features: maps, named by their stride: ``["stride8", "stride16"]``.
        frozen_bn: BatchNorm has fixed statistics and an affine part that is not trained.
    """

    def __init__(self, *, name: str, out_features: list[str], frozen_bn: bool = True):
        super().__init__()
        chain = build_module_sequence(name, frozen_bn)
        last = max(chain.position(feature) for feature in out_features)
        _drop(chain.net, chain.steps[last:])
        self.net, self.steps = chain.net, chain.steps[:last]
        self._out_features = list(out_features)
        self._shapes = {feature: chain.maps[feature][1] for feature in out_features}
        self._names = {chain.maps[feature][0]: feature for feature in out_features}

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(N, 3, H, W) -> ``{"stride<s>": (N, C, H / s, W / s)}``."""
        features = {}
        for step in self.steps:
            x = self.net.get_submodule(step)(x)
            if step in self._names:
                features[self._names[step]] = x
        return features

    def output_shape(self) -> dict[str, ShapeSpec]:
        return self._shapes


class TimmHead(nn.Module):
    """What follows a map in a network of timm, its last stage as a rule, with the global pooling at its end.

    It takes an RoI's map for T-WDet and the whole image's for S-Cls.

    Args:
        name, frozen_bn: as TimmBackbone. in_feature: the map that it begins with.
    """

    def __init__(self, *, name: str, in_feature: str = "stride16", frozen_bn: bool = True):
        super().__init__()
        chain = build_module_sequence(name, frozen_bn)
        first = chain.position(in_feature)
        _drop(chain.net, chain.steps[:first])
        self.net, self.steps, self.output_size = chain.net, chain.steps[first:], chain.output_size

    def forward(self, x: Tensor) -> Tensor:
        """(M, C, h, w) -> (M, output_size)."""
        for step in self.steps:
            x = self.net.get_submodule(step)(x)
        return x


@BACKBONE_REGISTRY.register()
def build_timm_backbone(cfg, input_shape: ShapeSpec) -> TimmBackbone:
    """TimmBackbone from ``cfg.MODEL.TIMM`` for YAML users."""
    node = cfg.MODEL.TIMM
    return TimmBackbone(name=node.NAME, out_features=node.OUT_FEATURES, frozen_bn=node.FROZEN_BN)
