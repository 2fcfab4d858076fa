"""Pixel statistics and channel order, which belong to the weights that were trained with them."""

from __future__ import annotations

import torch
from detectron2.structures import ImageList
from torch import Tensor, nn

IMAGENET_RGB = {
    "pixel_mean": [123.675, 116.28, 103.53],
    "pixel_std": [58.395, 57.12, 57.375],
    "image_format": "RGB",
}
INCEPTION_RGB = {"pixel_mean": [127.5, 127.5, 127.5], "pixel_std": [127.5, 127.5, 127.5], "image_format": "RGB"}
CAFFE_BGR = {"pixel_mean": [103.939, 116.779, 123.68], "pixel_std": [1.0, 1.0, 1.0], "image_format": "BGR"}


def normalization_state(pixel_mean: list[float], pixel_std: list[float], image_format: str) -> dict[str, Tensor]:
    """What a ``state_dict`` says of pixels; ``channel_order`` is the ASCII of ``image_format``."""
    return {
        "pixel_mean": torch.tensor(pixel_mean).view(-1, 1, 1),
        "pixel_std": torch.tensor(pixel_std).view(-1, 1, 1),
        "channel_order": torch.tensor(list(image_format.encode()), dtype=torch.uint8),
    }


def describe_normalization(entries: dict[str, Tensor]) -> str:
    """As a config has it: ``pixel_mean=[...] pixel_std=[...] image_format=...``."""
    mean, std = ([round(x, 3) for x in entries[key].flatten().tolist()] for key in ("pixel_mean", "pixel_std"))
    return f"pixel_mean={mean} pixel_std={std} image_format={bytes(entries['channel_order'].tolist()).decode()}"


class NormalizedImageModel(nn.Module):
    """Base of T-WDet and S-Cls: normalises images, and refuses weights that expect other pixels.

    Mean, deviation and channel order are in the ``state_dict``, so that every file of weights carries its own. Loading
    a file with others, or with none, is a RuntimeError that says what to set, whatever ``strict`` is.

    Args:
        pixel_mean, pixel_std: per channel, in the order of ``image_format``.
        image_format: channel order of the images, which the mapper reads in the same.
    """

    def __init__(self, pixel_mean: list[float], pixel_std: list[float], image_format: str):
        super().__init__()
        self.image_format = image_format
        for name, value in normalization_state(pixel_mean, pixel_std, image_format).items():
            self.register_buffer(name, value)

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    def preprocess_image(self, batched_inputs: list[dict]) -> ImageList:
        """Normalise and batch; smaller images are padded with zeros at the right and the bottom."""
        images = [(x["image"].to(self.device).float() - self.pixel_mean) / self.pixel_std for x in batched_inputs]
        return ImageList.from_tensors(images, self.backbone.size_divisibility)

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, strict, missing, unexpected, errors):
        own = {name: getattr(self, name).cpu() for name in ("pixel_mean", "pixel_std", "channel_order")}
        theirs = {name: state_dict[prefix + name].cpu() for name in own if prefix + name in state_dict}
        if len(theirs) < len(own):
            errors.append(
                "the weights do not say which pixels they expect (pixel_mean, pixel_std, channel_order): "
                "tools/convert_weights.py converts the files of others"
            )
        elif not all(_same(own[name], theirs[name]) for name in own):
            errors.append(
                f"the weights expect other pixels than the model gives them ({describe_normalization(own)}): "
                f"set the model's {describe_normalization(theirs)}"
            )
        _drop_aliases(state_dict, [prefix + name for name in self.state_dict()])
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing, unexpected, errors)


def _drop_aliases(state_dict: dict[str, Tensor], own: list[str]) -> None:
    """Converted files have some tensors under two names (``weights/convert.py``), of which a model uses one.

    The other is no unexpected key: hundreds of them in the log would hide those that are.
    """
    used = {state_dict[key].data_ptr() for key in own if key in state_dict}
    for key in set(state_dict).difference(own):
        if state_dict[key].data_ptr() in used:
            del state_dict[key]


def _same(ours: Tensor, theirs: Tensor) -> bool:
    return ours.shape == theirs.shape and torch.allclose(ours.float(), theirs.float(), rtol=1e-3)
