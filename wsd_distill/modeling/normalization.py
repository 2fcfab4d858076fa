"""Pixel statistics, class names and checks of loaded weights, shared by T-WDet and S-Cls."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from typing import Any, cast

import torch
from detectron2.modeling import Backbone
from detectron2.structures import ImageList
from torch import Tensor, nn

from wsd_distill.class_names import (
    check_class_names,
    class_names_state,
    describe_difference,
    is_class_names_key,
    read_class_names,
)

logger = logging.getLogger(__name__)

IMAGENET_RGB = {"pixel_mean": [123.675, 116.28, 103.53], "pixel_std": [58.395, 57.12, 57.375], "image_format": "RGB"}
INCEPTION_RGB = {"pixel_mean": [127.5, 127.5, 127.5], "pixel_std": [127.5, 127.5, 127.5], "image_format": "RGB"}
CAFFE_BGR = {"pixel_mean": [103.939, 116.779, 123.68], "pixel_std": [1.0, 1.0, 1.0], "image_format": "BGR"}
NORMALIZATION_KEYS = ("pixel_mean", "pixel_std", "channel_order")
CLASSIFICATION_LAYERS = ("cls_branch.", "det_branch.", "refinement.", "classifier.")  # absent from ImageNet weights


CLASSES_HINT = "Use the dataset that the weights were trained on, or train again"


def normalization_state(pixel_mean: list[float], pixel_std: list[float], image_format: str) -> dict[str, Tensor]:
    """Return the ``state_dict`` entries; ``channel_order`` is ``image_format`` in ASCII."""
    return {
        "pixel_mean": torch.tensor(pixel_mean).view(-1, 1, 1),
        "pixel_std": torch.tensor(pixel_std).view(-1, 1, 1),
        "channel_order": torch.tensor(list(image_format.encode()), dtype=torch.uint8),
    }


def describe_normalization(state: Mapping[str, Tensor]) -> str:
    """Format ``state_dict`` entries as config overrides: ``pixel_mean=[...] pixel_std=[...] image_format=...``."""
    mean, std = ([round(x, 3) for x in state[key].flatten().tolist()] for key in ("pixel_mean", "pixel_std"))
    return f"pixel_mean={mean} pixel_std={std} image_format={bytes(state['channel_order'].tolist()).decode()}"


class NormalizedImageModel(nn.Module):
    """Base of T-WDet and S-Cls: normalizes images and checks the weights that are loaded.

    Mean, standard deviation, channel order and class names are part of the ``state_dict``. Whatever ``strict`` is,
    :meth:`load_state_dict` changes nothing and raises a RuntimeError if the weights have another normalization, other
    classes, or no class names, or if keys are missing, unexpected or of another shape. Into ``new_layers`` and the
    classification layers, ImageNet weights, which have an empty list of class names, are loaded only if they fit.

    Args:
        pixel_mean, pixel_std: statistics per channel, in the order of ``image_format``.
        image_format: channel order of the inputs, "RGB" or "BGR".
        num_classes: K.
        class_names: K names; None takes the names of the first weights that are loaded.
        input_size: height and width of the images at test time; others are an error. None accepts any size.
        new_layers: names of submodules that ImageNet weights may lack, or have in another form.
    """

    backbone: Backbone  # set by subclasses
    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self,
        pixel_mean: list[float],
        pixel_std: list[float],
        image_format: str,
        num_classes: int,
        class_names: Sequence[str] | None = None,
        input_size: int | None = None,
        new_layers: Sequence[str] = (),
    ):
        super().__init__()
        self.new_layers = tuple(new_layers)
        self.image_format = image_format
        self.num_classes = num_classes
        self.input_size = input_size
        self._class_names: list[str] | None = None
        for name, value in normalization_state(pixel_mean, pixel_std, image_format).items():
            self.register_buffer(name, value)
        if class_names is not None:
            self.set_class_names(class_names)

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    @property
    def class_names(self) -> list[str] | None:
        """Names of the K classes; None if neither the config nor weights have set them."""
        return self._class_names

    def set_class_names(self, names: Sequence[str]) -> None:
        """Set the class names of a model that has none; raise ValueError if they are not K different names."""
        self._class_names = check_class_names(names, self.num_classes)
        for key, value in class_names_state(self._class_names).items():
            self.register_buffer(key, value.to(self.device))

    def preprocess_image(self, batched_inputs: list[dict]) -> ImageList:
        """Normalize and batch images; smaller ones are zero-padded at the right and the bottom."""
        images = [(x["image"].to(self.device).float() - self.pixel_mean) / self.pixel_std for x in batched_inputs]
        return ImageList.from_tensors(images, self.backbone.size_divisibility)

    def check_input_size(self, batched_inputs: list[dict]) -> None:
        """Raise ValueError if an image is not a square of ``input_size``: only the mapper resizes as in training."""
        for x in batched_inputs:
            height, width = x["image"].shape[-2:]
            if self.input_size is not None and (height, width) != (self.input_size, self.input_size):
                raise ValueError(
                    f"{x.get('file_name', 'an input')} has {height} x {width} pixels, and the model takes squares of "
                    f"{self.input_size}: read images with MultiLabelMapper.from_config (docs/recipes.md, YAML configs)"
                )

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load weights that fit; see the class for what is checked.

        Raises:
            RuntimeError: the weights do not fit, or ``strict`` is set and they are ImageNet weights; says why.
        """
        own = self.state_dict()
        state = cast(dict[str, Tensor], copy(state_dict))  # keeps PyTorch's metadata, unlike dict()
        _drop_aliases(state, set(own))
        new = (*CLASSIFICATION_LAYERS, *(f"{name}." for name in self.new_layers)) if not strict else ()
        try:
            names = self._check(own, state, new)
            if names and self.class_names is None:
                self.set_class_names(names)
        except ValueError as error:
            raise RuntimeError(str(error)) from error
        if not names:  # ImageNet weights
            for key in filter(is_class_names_key, list(state)):
                del state[key]
            random = sorted({key.rpartition(".")[0] for key in own if key.startswith(new) and key not in state})
            logger.info("Not in the weights, stay random: %s", ", ".join(random) or "no layer")
        return super().load_state_dict(state, strict and bool(names), assign)

    def _check(self, own: dict[str, Tensor], state: dict[str, Tensor], new_layers: tuple[str, ...]) -> list[str]:
        """Return the class names of ``state``; raise ValueError if it does not fit.

        ``new_layers`` (prefixes of keys) that ImageNet weights do not fit are dropped from ``state``.
        """
        if not set(NORMALIZATION_KEYS) <= set(state):
            raise ValueError(
                f"the weights lack their normalization ({', '.join(NORMALIZATION_KEYS)}): convert the files of other "
                "projects with tools/convert_weights.py"
            )
        names = read_class_names(state)
        if names is None:
            raise ValueError(
                "the weights have no class names: train again, or give the classes that they were trained with to "
                "tools/convert_weights.py checkpoint --classes (ImageNet weights: convert them again)"
            )
        if names and self.class_names is None and len(names) != self.num_classes:
            text = f"the weights have {len(names)} classes, and num_classes of the model is {self.num_classes}"
            raise ValueError(f"{text}: set it to the classes of the weights")
        if names and self.class_names is not None and names != self.class_names:
            raise ValueError(f"other classes: {describe_difference(self.class_names, names)}. {CLASSES_HINT}")
        if not all(_same(own[name], state[name]) for name in NORMALIZATION_KEYS):
            raise ValueError(
                f"the weights have another normalization than the model ({describe_normalization(own)}): "
                f"set the model's {describe_normalization(state)}"
            )
        if names:
            _check_keys(own, state, (), "use the config of the training that wrote them")
        else:
            _drop_unfitting(own, state, new_layers)
            hint = "use ImageNet weights of this network, name layers that they may lack in train.new_layers (in YAML "
            hint += "MODEL.IMAGE_LEVEL.NEW_LAYERS)"
            _check_keys(own, state, new_layers, hint if new_layers else "use trained weights")
        return names


def _drop_aliases(state_dict: dict[str, Tensor], own: set[str]) -> None:
    """Drop second names of tensors that the model uses.

    Converted files have some tensors under two names (``checkpoints/converters.py``). Hundreds of unused ones would
    hide unexpected keys in the log.
    """
    used = {state_dict[key].data_ptr() for key in own if key in state_dict}
    for key in set(state_dict).difference(own):
        if state_dict[key].data_ptr() in used:
            del state_dict[key]


def _drop_unfitting(own: Mapping[str, Tensor], state: dict[str, Tensor], layers: tuple[str, ...]) -> None:
    """Drop each layer that has other keys or shapes in ``state``, also where its tensors have second names."""
    dropped = set()
    for layer in layers:
        ours, theirs = (
            {key: x.shape for key, x in each.items() if key.startswith(layer) and not _is_counter(key)}
            for each in (own, state)
        )
        if ours != theirs:
            dropped |= {key for key in state if key.startswith(layer)}
    tensors = {state[key].data_ptr() for key in dropped}
    for key in [key for key in state if key in dropped or (key not in own and state[key].data_ptr() in tensors)]:
        del state[key]


def _check_keys(own: Mapping[str, Tensor], found: Mapping[str, Tensor], new_layers: tuple[str, ...], hint: str) -> None:
    """Compare keys and shapes of a model and of weights; raise ValueError that lists the differences.

    Args:
        new_layers: prefixes of keys that may be missing.
        hint: what to do.
    """
    # BatchNorm creates num_batches_tracked itself. Normalization and class names have their own errors.
    missing, unexpected = (
        {key for key in keys if not _is_counter(key) and not is_class_names_key(key)}
        for keys in (own.keys() - found.keys(), found.keys() - own.keys())
    )
    missing = {key for key in missing if not key.startswith(new_layers)}
    reshaped = {
        f"{key} {tuple(found[key].shape)} instead of {tuple(own[key].shape)}"
        for key in own.keys() & found.keys()
        if own[key].shape != found[key].shape
    }
    texts = {"missing or of another shape": missing | reshaped, "not in the model": unexpected}
    listed = [f"{len(keys)} keys {text}: {list_first(keys)}" for text, keys in texts.items() if keys]
    if listed:
        raise ValueError(f"the weights do not fit the model; {hint}, or other weights. {'; '.join(listed)}")


def list_first(keys: Iterable[str], limit: int = 8) -> str:
    """List keys in their order, at most ``limit`` of them."""
    ordered = sorted(keys)
    more = f" and {len(ordered) - limit} more" if len(ordered) > limit else ""
    return ", ".join(ordered[:limit]) + more


def _is_counter(key: str) -> bool:
    return key.endswith("num_batches_tracked")


def _same(ours: Tensor, theirs: Tensor) -> bool:
    return ours.shape == theirs.shape and torch.allclose(ours.cpu().float(), theirs.cpu().float(), rtol=1e-3)
