"""Mixup, CutMix and mosaic for multi-label images: pixels, labels, scores and feature maps mix in the same way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from .types import MappedImage


class Mix(NamedTuple):
    """How the N images of a batch were mixed.

    Attributes:
        kind: "mixup", "cutmix" or "mosaic".
        partners: (N,) for mixup and CutMix, (3, N) for mosaic: indices of the other images in the batch.
        weight: of an image itself; of its partner 1 - weight. In CutMix the share of its area that is left.
        box: of CutMix, (x0, y0, x1, y1) as fractions of the sides: the part that shows the partner.
    """

    kind: str
    partners: np.ndarray
    weight: float = 1.0
    box: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)

    def maps(self, x: Tensor) -> Tensor:
        """Mix float images or feature maps (N, C, h, w) of any size.

        At the edges of CutMix's box and between the images of a mosaic, cells that show both are averages.
        """
        if self.kind == "mosaic":
            right, below, last = (x[rows] for rows in self.partners)
            return avg_pool2d(torch.cat([torch.cat([x, right], 3), torch.cat([below, last], 3)], 2), 2)
        own = self.weight if self.kind == "mixup" else 1 - self._coverage(*x.shape[-2:]).to(x)
        return own * x + (1 - own) * x[self.partners]

    def scores(self, x: Tensor) -> Tensor:
        """Mix scores (N, K) by area, or by the weight of the pixels; a mosaic has the largest of its four images."""
        if self.kind == "mosaic":
            return torch.stack([x, *(x[rows] for rows in self.partners)]).amax(0)
        return self.weight * x + (1 - self.weight) * x[self.partners]

    def labels(self, x: Tensor) -> Tensor:
        """Mix labels (N, K); unknown, -1, where a part is unknown, unless another part of a mosaic is positive."""
        if self.kind == "mosaic":
            stacked = torch.stack([x, *(x[rows] for rows in self.partners)])
            known = torch.where((stacked < 0).any(0), -1.0, 0.0)
            return torch.where((stacked > 0).any(0), 1.0, known)
        weighted = [(x, self.weight), (x[self.partners], 1 - self.weight)]
        unknown = torch.stack([(part < 0) & (weight > 0) for part, weight in weighted]).any(0)
        return torch.where(unknown, -1.0, self.scores(x))

    def _coverage(self, h: int, w: int) -> Tensor:
        """Fraction of each of (h, w) cells that the box covers."""
        x0, y0, x1, y1 = self.box
        (left, right), (top, bottom) = ((torch.arange(n) / n, torch.arange(1, n + 1) / n) for n in (w, h))
        across = (right.clamp(max=x1) - left.clamp(min=x0)).clamp(min=0) * w
        down = (bottom.clamp(max=y1) - top.clamp(min=y0)).clamp(min=0) * h
        return down[:, None] * across[None, :]


@dataclass
class MixImages:
    """Mix the images of a batch with one another, for training a student.

    Mixup: Zhang et al. 2018; CutMix: Yun et al. 2019; mosaic: Bochkovskiy et al. 2020. At most one of them is applied
    to a batch. Labels mix like pixels: in mixup and CutMix by the images' weights; a mosaic shows whole images at
    half size and has all their labels.

    Draws NumPy's random numbers, which the loader seeds by the position of the batch's last image.

    Args:
        mixup: alpha of the Beta distribution of the weight; 0 for no mixup.
        cutmix: alpha of that of the area; 0 for no CutMix.
        mosaic: True for mosaics.
        prob: probability that a batch is mixed.

    Raises:
        ValueError: a value is out of its range, or the images of a batch differ in size.
    """

    mixup: float = 0.0
    cutmix: float = 0.0
    mosaic: bool = False
    prob: float = 1.0

    def __post_init__(self) -> None:
        if self.mixup < 0 or self.cutmix < 0 or not 0 <= self.prob <= 1:
            given = f"mixup={self.mixup}, cutmix={self.cutmix}, prob={self.prob}"
            raise ValueError(f"dataloader.train.mix has {given}: mixup and cutmix are 0 or more, prob is from 0 to 1")

    @property
    def kinds(self) -> list[str]:
        """Of "mixup", "cutmix" and "mosaic" those that may be drawn for a batch."""
        return [kind for kind in ("mixup", "cutmix", "mosaic") if getattr(self, kind) and self.prob]

    def __call__(self, batch: list[MappedImage]) -> list[MappedImage]:
        kinds = self.kinds
        if len(batch) < 2 or not kinds or np.random.rand() >= self.prob:
            return batch
        mix = self._draw(str(np.random.choice(kinds)), len(batch))
        shapes = {tuple(x["image"].shape) for x in batch}
        if len(shapes) > 1:
            raise ValueError(
                f"images of {len(shapes)} sizes cannot be mixed: set a single one in dataloader.train.mapper.sizes, "
                "or dataloader.train.mix=null"
            )
        images = mix.maps(torch.stack([x["image"] for x in batch]).float()).round().to(torch.uint8)
        labels = mix.labels(torch.stack([x["labels"] for x in batch]))
        return [
            {**x, "image": image, "labels": y, "unmixed_labels": x["labels"], "mix": mix}
            for x, image, y in zip(batch, images, labels)
        ]

    def _draw(self, kind: str, size: int) -> Mix:
        # A partner is never the image itself: another one at a drawn distance in a drawn order.
        order, place = np.random.permutation(size), np.empty(size, dtype=np.int64)
        place[order] = np.arange(size)
        others = [order[(place + 1 + i % (size - 1)) % size] for i in range(3)]
        if kind == "mosaic":
            return Mix(kind, np.stack(others))
        alpha = self.mixup if kind == "mixup" else self.cutmix
        weight = float(np.random.beta(alpha, alpha))
        if kind == "mixup":
            return Mix(kind, others[0], weight)
        side = (1 - weight) ** 0.5
        x, y = np.random.uniform(0, 1, 2)
        x0, x1, y0, y1 = (float(np.clip(v, 0, 1)) for v in (x - side / 2, x + side / 2, y - side / 2, y + side / 2))
        return Mix(kind, others[0], 1 - (x1 - x0) * (y1 - y0), (x0, y0, x1, y1))
