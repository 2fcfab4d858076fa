"""What part of an image a view shows, and how boxes and feature maps of the image move into the view."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import roi_align

Window = tuple[int, int, int, int]  # x0, y0, x1, y1 in pixels of the image


class Geometry(NamedTuple):
    """A window of an image, possibly mirrored, that is resized to a square.

    Attributes:
        window: (x0, y0, x1, y1) in pixels of the upright image.
        shape: (height, width) of the image.
        flip: mirrored horizontally.
    """

    window: Window
    shape: tuple[int, int]
    flip: bool = False

    @classmethod
    def whole(cls, shape: tuple[int, int], flip: bool = False) -> Geometry:
        """The whole image."""
        return cls((0, 0, shape[1], shape[0]), shape, flip)

    @property
    def is_whole(self) -> bool:
        return self.window == (0, 0, self.shape[1], self.shape[0])

    def visible(self, boxes: np.ndarray) -> np.ndarray:
        """Compute the fraction of the area of (R, 4) boxes, in pixels of the image, that the view shows: (R,).

        A box without area counts as not visible, unless the view shows the whole image.
        """
        if self.is_whole:
            return np.ones(len(boxes))
        x0, y0, x1, y1 = self.window
        low, high = np.maximum(boxes[:, :2], (x0, y0)), np.minimum(boxes[:, 2:], (x1, y1))
        areas = (boxes[:, 2:] - boxes[:, :2]).clip(min=0).prod(1)
        return (high - low).clip(min=0).prod(1) / np.maximum(areas, 1e-9)

    def apply_boxes(self, boxes: np.ndarray, size: int) -> np.ndarray:
        """Map (R, 4) XYXY boxes in pixels of the image to pixels of the view, clipped to its ``size``."""
        x0, y0, x1, y1 = self.window
        scale = np.array([size / (x1 - x0), size / (y1 - y0)] * 2)
        moved = (np.asarray(boxes, np.float64) - (x0, y0, x0, y0)) * scale
        if self.flip:
            moved[:, [0, 2]] = size - moved[:, [2, 0]]
        return moved.clip(0, size)


def draw_window(shape: tuple[int, int], scale: Sequence[float], ratio: Sequence[float]) -> Window:
    """Draw the window of a random resized crop (Szegedy et al. 2015) with NumPy's random numbers.

    Args:
        shape: (height, width) of the image.
        scale: limits of the window's area, as a fraction of the image's.
        ratio: limits of its width over its height, drawn uniformly in the logarithm.
    """
    height, width = shape
    for _ in range(10):
        area = height * width * np.random.uniform(scale[0], scale[1])
        aspect = math.exp(np.random.uniform(math.log(ratio[0]), math.log(ratio[1])))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            x, y = np.random.randint(width - w + 1), np.random.randint(height - h + 1)
            return x, y, x + w, y + h
    return 0, 0, width, height


def show_maps(maps: Tensor, geometries: list[Geometry]) -> Tensor:
    """Resample feature maps of whole images, (N, C, h, w), to the views: the same shape, bilinear.

    A view of the whole image leaves a map as it is, a mirrored one mirrors it.
    """
    if any(not geometry.is_whole for geometry in geometries):
        h, w = maps.shape[-2:]
        boxes = [
            [i, x0 * w / g.shape[1], y0 * h / g.shape[0], x1 * w / g.shape[1], y1 * h / g.shape[0]]
            for i, g in enumerate(geometries)
            for x0, y0, x1, y1 in [g.window]
        ]
        # One sample in the middle of each cell: with the whole image as the box, the cells themselves.
        maps = roi_align(maps, maps.new_tensor(boxes), (h, w), sampling_ratio=1, aligned=True)
    flips = torch.tensor([geometry.flip for geometry in geometries], device=maps.device)
    return torch.where(flips[:, None, None, None], maps.flip(3), maps) if flips.any() else maps
