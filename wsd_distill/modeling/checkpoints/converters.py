"""Conversion of torchvision, Caffe and timm weights to ``{"model": state dict}`` of T-WDet and S-Cls.

Both models have a ``backbone`` and a ``head``, so that one file initializes both. A last stage that is the head in one
model and the end of the backbone in another has both names; the file stores it once. ImageNet classifiers are dropped.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import timm
import torch
from torch import Tensor, nn

from wsd_distill.class_names import check_class_names, class_names_state, read_class_names
from wsd_distill.io import check_file

from ..backbones.vgg import CONVS, conv_names
from ..normalization import CAFFE_BGR, CLASSIFICATION_LAYERS, IMAGENET_RGB, NORMALIZATION_KEYS, normalization_state
from .caffemodel import read_caffemodel
from .load import check_zip, get_state, read_weights, wrap_load_errors

VGG16_CONVS = [name for block in range(1, len(CONVS) + 1) for name in conv_names(block)]
VGG16_LAYERS = {**{name: f"backbone.{name}" for name in VGG16_CONVS}, "fc6": "head.fc6", "fc7": "head.fc7"}
TORCHVISION_CONVS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)  # indices in torchvision's ``features``


def from_torchvision_vgg16(path: str | Path) -> dict:
    """Convert ``vgg16-397923af.pth`` or a file with the same keys (no BatchNorm)."""
    state = get_state(read_weights(path), str(path))
    sources = [*(f"features.{i}" for i in TORCHVISION_CONVS), "classifier.0", "classifier.3"]
    _require_keys(path, [f"{source}.{kind}" for source in sources for kind in ("weight", "bias")], state)
    model = {}
    for source, target in zip(sources, VGG16_LAYERS.values()):
        model.update({f"{target}.{kind}": state[f"{source}.{kind}"] for kind in ("weight", "bias")})
    return _with_normalization(model, IMAGENET_RGB)


def from_caffe_vgg16(path: str | Path) -> dict:
    """Convert ``VGG_ILSVRC_16_layers.caffemodel``: BGR, mean subtracted, not scaled."""
    blobs = read_caffemodel(path)
    _require_keys(path, list(VGG16_LAYERS), blobs)
    model = {}
    for source, target in VGG16_LAYERS.items():
        weight, bias = (torch.from_numpy(blob.copy()) for blob in blobs[source])
        model[f"{target}.weight"] = weight if source in VGG16_CONVS else weight.flatten(0, -2)
        model[f"{target}.bias"] = bias.flatten()  # old files have (1, 1, 1, C), and (1, 1, out, in) for fc6, fc7
    return _with_normalization(model, CAFFE_BGR)


def from_torchvision_resnet(path: str | Path) -> dict:
    """Convert a torchvision ResNet of any depth; res5 is stored for the backbone and for the head."""
    state = get_state(read_weights(path), str(path))
    _require_keys(path, ["conv1.weight", "bn1.weight", "layer1.0.conv1.weight", "layer4.0.conv1.weight"], state)
    model = {}
    for key, value in state.items():
        if key.startswith("fc.") or key.endswith("num_batches_tracked"):
            continue
        name = _resnet_name(key)
        model[f"backbone.{name}"] = value
        if name.startswith("res5."):
            model[f"head.stage.{name[5:]}"] = value
    return _with_normalization(model, IMAGENET_RGB)


def _resnet_name(key: str) -> str:
    key = re.sub(r"^(conv1|bn1)\.", r"stem.\1.", key)
    key = re.sub(r"^layer(\d)\.", lambda found: f"res{int(found[1]) + 1}.", key)
    key = key.replace("downsample.0.", "shortcut.").replace("downsample.1.", "shortcut.norm.")
    return re.sub(r"\bbn(\d)\.", r"conv\1.norm.", key)


def from_timm(path: str | Path | None, *, name: str) -> dict:
    """Convert weights of timm's network ``name``, from a file or, if ``path`` is None, downloaded by timm.

    The normalization is timm's for ``name``, including its tag if there is one ("resnet50.a1_in1k").
    """
    net = timm.create_model(name, pretrained=path is None, num_classes=0)
    if path is not None:
        check_file(path)
    with wrap_load_errors(path):
        if path is not None:
            check_zip(path)
        state = net.state_dict() if path is None else timm.models.load_state_dict(str(path), weights_only=True)
    return timm_parts(path, state, net)


def timm_parts(path: str | Path | None, state: dict[str, Tensor], net: nn.Module) -> dict:
    """Convert timm's ``state`` to TimmBackbone and TimmHead of ``net``, which has no classifier."""
    kept = [key for key in net.state_dict() if not key.endswith("num_batches_tracked")]
    _require_keys(path, kept, state)
    mean, std = ([255 * x for x in cast(dict, net.pretrained_cfg)[key]] for key in ("mean", "std"))
    normalization = {"pixel_mean": mean, "pixel_std": std, "image_format": "RGB"}
    return _with_normalization(
        {f"{part}.net.{key}": state[key] for part in ("backbone", "head") for key in kept}, normalization
    )


def from_checkpoint(path: str | Path, *, classes: Sequence[str]) -> dict:
    """Add class names to trained weights of T-WDet or S-Cls that have none, for example of another program.

    Args:
        classes: names in the order of the K outputs.

    Raises:
        ValueError: the weights have class names, no normalization, or no classification layer with K outputs.
    """
    state = get_state(read_weights(path), str(path))
    if read_class_names(state) is not None:
        raise ValueError(f"{path} has class names already: use it as it is")
    _require_keys(path, list(NORMALIZATION_KEYS), state)
    layers = [key for key in state if key.startswith(CLASSIFICATION_LAYERS)]
    counts = {len(state[key]) for key in layers if state[key].dim()}
    if counts != {len(classes)}:
        text = f"{path} has {sorted(counts)} outputs in its classification layers ({', '.join(layers) or 'none'})"
        raise ValueError(f"{text}, and there are {len(classes)} classes: give one name for each output, in their order")
    return {"model": {**state, **class_names_state(check_class_names(classes, len(classes)))}}


FORMATS = {
    "checkpoint": from_checkpoint,
    "torchvision-vgg16": from_torchvision_vgg16,
    "caffe-vgg16": from_caffe_vgg16,
    "torchvision-resnet": from_torchvision_resnet,
    "timm": from_timm,
}


def _require_keys(path, keys: list[str], state: dict) -> None:
    missing = [key for key in keys if key not in state]
    if missing:
        raise ValueError(
            f"{path} does not have the keys of this format: {len(missing)} of {len(keys)} are missing, first "
            f"{missing[0]!r}. Its own keys begin with {list(state)[:3]}."
        )


def _with_normalization(model: dict[str, Tensor], normalization: dict) -> dict:
    """Add the normalization, and the empty list of classes that marks ImageNet weights."""
    return {"model": {**model, **normalization_state(**normalization), **class_names_state([])}}
