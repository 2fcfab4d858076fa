"""Pixel statistics, input size and checks of loaded weights, shared by T-WDet and S-Cls."""

from __future__ import annotations

import numpy as np
import torch
from detectron2.modeling import Backbone
from detectron2.structures import ImageList, Instances
from torch import Tensor, nn

from wsd_distill.data.image import resize_to_square

IMAGENET_RGB = {"pixel_mean": [123.675, 116.28, 103.53], "pixel_std": [58.395, 57.12, 57.375], "image_format": "RGB"}
INCEPTION_RGB = {"pixel_mean": [127.5, 127.5, 127.5], "pixel_std": [127.5, 127.5, 127.5], "image_format": "RGB"}
CAFFE_BGR = {"pixel_mean": [103.939, 116.779, 123.68], "pixel_std": [1.0, 1.0, 1.0], "image_format": "BGR"}
NORMALIZATION_KEYS = ("pixel_mean", "pixel_std", "channel_order")
CLASSIFICATION_LAYERS = ("cls_branch.", "det_branch.", "classifier.")  # absent from ImageNet weights


def normalization_state(pixel_mean: list[float], pixel_std: list[float], image_format: str) -> dict[str, Tensor]:
    """Return the ``state_dict`` entries; ``channel_order`` is ``image_format`` in ASCII."""
    return {
        "pixel_mean": torch.tensor(pixel_mean).view(-1, 1, 1),
        "pixel_std": torch.tensor(pixel_std).view(-1, 1, 1),
        "channel_order": torch.tensor(list(image_format.encode()), dtype=torch.uint8),
    }


def describe_normalization(state: dict[str, Tensor]) -> str:
    """Format ``state_dict`` entries as config overrides: ``pixel_mean=[...] pixel_std=[...] image_format=...``."""
    mean, std = ([round(x, 3) for x in state[key].flatten().tolist()] for key in ("pixel_mean", "pixel_std"))
    return f"pixel_mean={mean} pixel_std={std} image_format={bytes(state['channel_order'].tolist()).decode()}"


class NormalizedImageModel(nn.Module):
    """Base of T-WDet and S-Cls: normalizes images and checks the weights that are loaded.

    Mean, standard deviation and channel order are part of the ``state_dict``. Whatever ``strict`` is, loading raises a
    RuntimeError if the weights have another normalization, or if keys are missing or of another shape. Weights without
    a classification layer, such as ImageNet weights, may lack the classification layers and new layers of the head. A
    checkpoint of T-WDet or S-Cls must match exactly.

    Args:
        pixel_mean, pixel_std: statistics per channel, in the order of ``image_format``.
        image_format: channel order of the inputs, "RGB" or "BGR".
        input_size: height and width to which ``resize_to_input`` resizes; None keeps images as they are.
    """

    backbone: Backbone  # set by subclasses
    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self, pixel_mean: list[float], pixel_std: list[float], image_format: str, input_size: int | None = None
    ):
        super().__init__()
        self.image_format = image_format
        self.input_size = input_size
        for name, value in normalization_state(pixel_mean, pixel_std, image_format).items():
            self.register_buffer(name, value)

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    def preprocess_image(self, batched_inputs: list[dict]) -> ImageList:
        """Normalize and batch images; smaller ones are zero-padded at the right and the bottom."""
        images = [(x["image"].to(self.device).float() - self.pixel_mean) / self.pixel_std for x in batched_inputs]
        return ImageList.from_tensors(images, self.backbone.size_divisibility)

    def resize_to_input(self, x: dict) -> dict:
        """Resize an input to a square of ``input_size``, as the mapper does; used at test time.

        Args:
            x: ``image`` (3, H, W) in 0..255 and, optionally, ``proposals`` in its pixels. ``views`` stay as they are.

        Returns:
            The resized input; ``height`` and ``width`` default to the size of the given image.
        """
        height, width = x["image"].shape[-2:]
        side = self.input_size
        if side is None or (height, width) == (side, side):
            return x
        pixels = np.ascontiguousarray(x["image"].round().byte().permute(1, 2, 0).cpu().numpy())  # (H, W, 3)
        resized = {"height": height, "width": width, **x, "image": resize_to_square(pixels, side)}
        if "proposals" in x:
            boxes = x["proposals"].proposal_boxes.clone()
            boxes.scale(side / width, side / height)
            boxes.clip((side, side))
            resized["proposals"] = Instances((side, side), proposal_boxes=boxes, scores=x["proposals"].scores)
        return resized

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, strict, missing, unexpected, errors):
        own = self.state_dict()
        _drop_aliases(state_dict, {prefix + key for key in own})
        found = {key[len(prefix) :]: value for key, value in state_dict.items() if key.startswith(prefix)}
        if not set(NORMALIZATION_KEYS) <= set(found):
            errors.append(
                f"the weights lack their normalization ({', '.join(NORMALIZATION_KEYS)}): convert the files of other "
                "projects with tools/convert_weights.py"
            )
        elif not all(_same(own[name], found[name]) for name in NORMALIZATION_KEYS):
            errors.append(
                f"the weights have another normalization than the model ({describe_normalization(own)}): "
                f"set the model's {describe_normalization(found)}"
            )
        # A model's own state_dict() has metadata, even after a checkpointer has dropped keys of another shape.
        errors += _key_errors(set(own), set(found), is_trained="version" in local_metadata)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing, unexpected, errors)


def _drop_aliases(state_dict: dict[str, Tensor], own: set[str]) -> None:
    """Drop second names of tensors that the model uses.

    Converted files have some tensors under two names (``checkpoints/converters.py``). Hundreds of unused ones would
    hide unexpected keys in the log.
    """
    used = {state_dict[key].data_ptr() for key in own if key in state_dict}
    for key in set(state_dict).difference(own):
        if state_dict[key].data_ptr() in used:
            del state_dict[key]


def _key_errors(own: set[str], found: set[str], is_trained: bool) -> list[str]:
    """Compare the keys of a model and of weights; ``is_trained``: the weights are a checkpoint of T-WDet or S-Cls."""
    is_trained = is_trained or any(key.startswith(CLASSIFICATION_LAYERS) for key in found)
    missing, unexpected = own - found, found - own
    if not is_trained:
        missing, unexpected = {key for key in missing if not _is_new_layer(key, found)}, set()
    # BatchNorm creates num_batches_tracked itself. The normalization has its own error.
    unchecked = ("num_batches_tracked", *NORMALIZATION_KEYS)
    texts = []
    for text, keys in (("missing or of another shape", missing), ("not in the model", unexpected)):
        listed = sorted(key for key in keys if not key.endswith(unchecked))
        if listed:
            texts.append(f"{len(listed)} keys {text}: {', '.join(listed)}")
    if not texts:
        return []
    hint = "use the config of the training that wrote them" if is_trained else "use ImageNet weights of this backbone"
    return [f"the weights do not fit the model; {hint}, or other weights. {'; '.join(texts)}"]


def _is_new_layer(key: str, found: set[str]) -> bool:
    """Whether ImageNet weights may lack ``key``: a classification layer, or a layer of the head missing as a whole."""
    layer = ".".join(key.split(".")[:2]) + "."
    return key.startswith(CLASSIFICATION_LAYERS) or (
        key.startswith("head.") and not any(other.startswith(layer) for other in found)
    )


def _same(ours: Tensor, theirs: Tensor) -> bool:
    return ours.shape == theirs.shape and torch.allclose(ours.cpu().float(), theirs.cpu().float(), rtol=1e-3)
