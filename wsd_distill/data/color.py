"""Random changes of colors in training: RandAugment of timm, without its geometric operations."""

from __future__ import annotations

import re

import numpy as np
import torch
from PIL import Image
from timm.data.auto_augment import rand_augment_choices, rand_augment_transform

# timm's other operations move pixels, and with them the objects, away from the proposals.
PHOTOMETRIC = frozenset(
    "AutoContrast Equalize Invert Posterize PosterizeIncreasing Solarize SolarizeIncreasing SolarizeAdd Color "
    "ColorIncreasing Contrast ContrastIncreasing Brightness BrightnessIncreasing Sharpness SharpnessIncreasing "
    "Desaturate GaussianBlur".split()
)
_POLICY = re.compile(r"rand(-(m\d+|n[1-9]\d*|p\d+(\.\d+)?|mstd\d+(\.\d+)?|mmax\d+|inc[01]|t(weights|3aw|3a)))*")


class ColorAugment:
    """RandAugment (Cubuk et al. 2020) with the operations of timm that change colors, blur or sharpen.

    Rotations, shears and translations are left out: they would move the objects away from their boxes, which the
    mapper returns for the original geometry. Random numbers are those of Python and NumPy.

    Args:
        policy: in timm's notation, for example "rand-m9-n2-mstd0.5-inc1": "m" is the magnitude (10), "n" the number of
            operations per image (2), "p" the probability of each (0.5), "mstd" the standard deviation of the magnitude
            (0), "mmax" its maximum (10); "inc1" takes variants that grow with the magnitude, and "tweights", "t3a" and
            "t3aw" are timm's other sets of operations.
        image_format: channel order of the images, "RGB" or "BGR".

    Raises:
        ValueError: ``policy`` is not in this notation.
    """

    def __init__(self, policy: str, image_format: str = "RGB"):
        if not _POLICY.fullmatch(policy):
            raise ValueError(
                f"dataloader.train.mapper.color_augment={policy!r} (in YAML INPUT.COLOR_AUGMENT): give a RandAugment "
                "policy of timm, for example rand-m9-n2-mstd0.5-inc1"
            )
        parts = policy.split("-")
        sets = [part[1:] for part in parts if part.startswith("t")]
        choices = rand_augment_choices(sets[-1] if sets else "", increasing="inc1" in parts)
        if isinstance(choices, dict):
            operations: dict | list = {name: weight for name, weight in choices.items() if name in PHOTOMETRIC}
        else:
            operations = [name for name in choices if name in PHOTOMETRIC]
        self._augment = rand_augment_transform(policy, transforms=operations)
        self._is_bgr = image_format == "BGR"

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """Map (3, H, W) uint8 to the same shape and type; the input is not changed."""
        rgb = pixels.flip(0) if self._is_bgr else pixels
        image = self._augment(Image.fromarray(rgb.permute(1, 2, 0).contiguous().numpy()))
        changed = torch.from_numpy(np.array(image)).permute(2, 0, 1)  # (3, H, W)
        return (changed.flip(0) if self._is_bgr else changed).contiguous()
