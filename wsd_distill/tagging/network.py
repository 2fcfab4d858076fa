"""S-Cls with pixels as its input, and how it is built from a model folder. Needs PyTorch and Detectron2."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from ..modeling import MultiLabelClassifier
from .model_config import ModelConfig, ModelConfigError

# Whatever else a config.json names is not called.
_MODULES = {
    f"{package}.{name}": f"wsd_distill.modeling.{name}"
    for name, module in {
        "TimmBackbone": "backbones.timm",
        "TimmHead": "backbones.timm",
        "SmallConvNet": "backbones.small",
        "VGG16": "backbones.vgg",
        "FCHead": "heads",
        "GlobalPoolHead": "heads",
        "StageHead": "heads",
        "make_res5": "backbones.resnet",
        "make_stages": "backbones.resnet",
    }.items()
    for package in ("wsd_distill.modeling", f"wsd_distill.modeling.{module}")
}
_MODULES |= {
    f"detectron2.modeling.{package}{name}": f"detectron2.modeling.backbone.{name}"
    for name in ("ResNet", "BasicStem")
    for package in ("", "backbone.", "backbone.resnet.")
}
_MODULES |= {
    "wsd_distill.modeling.maps_up_to": "wsd_distill.modeling.maps_up_to",
    "wsd_distill.modeling.backbones.timm.maps_up_to": "wsd_distill.modeling.maps_up_to",
}


class PixelNetwork(nn.Module):
    """Maps (N, S, S, 3) uint8 RGB to (N, K) float32 logits: normalization and channel order of S-Cls are inside."""

    def __init__(self, model: MultiLabelClassifier):
        super().__init__()
        order = [0, 1, 2] if model.image_format == "RGB" else [2, 1, 0]
        self.model = model
        self.is_bgr = model.image_format == "BGR"
        self.register_buffer("mean", model.pixel_mean.flatten()[order].clone(), persistent=False)  # RGB
        self.register_buffer("std", model.pixel_std.flatten()[order].clone(), persistent=False)

    mean: Tensor
    std: Tensor

    def forward(self, pixels: Tensor) -> Tensor:
        x = ((pixels.float() - self.mean) / self.std).permute(0, 3, 1, 2)  # (N, 3, S, S)
        x = x.flip(1) if self.is_bgr else x
        return self.model.logits(self.model.backbone(x))


def describe_network(model: DictConfig) -> dict[str, Any]:
    """Return backbone, in_feature and head of the config of a MultiLabelClassifier, as :func:`build_network` reads.

    Args:
        model: ``cfg.model`` of a recipe or of the ``config.yaml`` of a run.

    Raises:
        ValueError: the config names a module that a model folder cannot have.
    """
    found = {}
    for key in ("backbone", "in_feature", "head"):
        node = model[key]
        found[key] = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    return _replace_targets(found)


def _replace_targets(node: Any) -> Any:
    """Replace modules by their public names, and what is computed from plain values by its result."""
    if isinstance(node, list):
        return [_replace_targets(value) for value in node]
    if not isinstance(node, dict):
        return node
    node = {key: _replace_targets(value) for key, value in node.items()}
    if "_target_" in node:
        target = node["_target_"]
        name = target if isinstance(target, str) else f"{target.__module__}.{target.__qualname__}"
        if name not in _MODULES:
            raise ValueError(f"{name} cannot be part of a model folder: use a network of wsd_distill.modeling")
        node["_target_"] = _MODULES[name]
        return instantiate(node) if name.endswith("maps_up_to") else node
    return node


def build_network(config: ModelConfig) -> MultiLabelClassifier:
    """Build S-Cls with random weights.

    Raises:
        ModelConfigError: ``config.backbone`` does not describe one.
    """
    try:
        parts = _replace_targets({key: config.backbone[key] for key in ("backbone", "in_feature", "head")})
        with torch.random.fork_rng(devices=[]):
            return MultiLabelClassifier(
                backbone=instantiate(parts["backbone"]),
                in_feature=parts["in_feature"],
                head=instantiate(parts["head"]),
                num_classes=len(config.classes),
                class_names=config.classes,
                pixel_mean=config.pixel_mean,
                pixel_std=config.pixel_std,
                image_format=config.image_format,
                input_size=config.image_size,
            )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelConfigError(f"config.json: backbone does not describe a network ({error})") from error
