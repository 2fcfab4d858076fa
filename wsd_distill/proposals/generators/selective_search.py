"""Selective search (Uijlings et al., IJCV 2013) through OpenCV: photo in, class-agnostic object proposals out."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import cv2
import numpy as np
import torch
from torchvision.ops import nms

from .resize import resize_longest_side

MODES = ("fast", "quality")


@dataclass(frozen=True)
class SelectiveSearch:
    """Callable: image (H, W, 3) uint8 RGB -> boxes (R, 4) XYXY_ABS in its pixels, scores (R,), both float32.

    Selective search has no score. What T-WDet gets as s_R is the rank: 1 for the first of R boxes, then falling
    evenly to 1 / R. The order is that of the paper in kind, larger boxes first, shaken at random so that boxes of
    all sizes are among the first, and of two that are nearly alike the latter is dropped. OpenCV's own order hangs
    on the process's random state. Safe to pickle.

    Args:
        max_boxes: how many boxes to keep of an image.
        beta: IoU from which a box suppresses a later one.
        mode: fast, or quality, which segments more colour spaces with more strategies.
        max_side: larger photos are first shrunk to this longest side, in pixels; None leaves them.
        min_box_side: smaller boxes are dropped, in pixels of the photo that is searched.
        seed: of the order, which is the same for every photo with as many boxes.

    Raises:
        ValueError: no such mode.
    """

    max_boxes: int = 500
    beta: float = 0.8
    mode: str = "fast"
    max_side: int | None = 320
    min_box_side: int = 10
    seed: int = 0

    name = "selective_search"
    in_workers = True

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"selective search has no mode {self.mode}: choose {' or '.join(MODES)}")

    @property
    def parameters(self) -> dict:
        """What boxes and scores depend on, as JSON."""
        return {**asdict(self), "scores": "falling rank in (0, 1]"}

    def __call__(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        height, width = image.shape[:2]
        picture = image if self.max_side is None else resize_longest_side(image, min(self.max_side, max(height, width)))
        boxes = self._ordered(self._find(picture))
        rank = torch.arange(len(boxes), 0, -1, dtype=torch.float32)
        boxes = boxes[nms(torch.from_numpy(boxes), rank, self.beta)[: self.max_boxes].numpy()]
        scale = np.array([width / picture.shape[1], height / picture.shape[0]] * 2, np.float32)
        scores = np.arange(len(boxes), 0, -1, dtype=np.float32) / max(len(boxes), 1)
        return boxes * scale, scores

    def _find(self, picture: np.ndarray) -> np.ndarray:
        """(R, 4) float32 XYXY of at least the wanted size, in no order to rely on."""
        search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
        search.setBaseImage(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        (search.switchToSelectiveSearchFast if self.mode == "fast" else search.switchToSelectiveSearchQuality)()
        found = np.array(search.process(), np.float32).reshape(-1, 4)
        found = found[found[:, 2:].min(axis=1, initial=np.inf) >= self.min_box_side]
        return np.hstack([found[:, :2], found[:, :2] + found[:, 2:]])

    def _ordered(self, boxes: np.ndarray) -> np.ndarray:
        area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
        boxes = boxes[np.lexsort([*boxes.T, -area])]
        rank = np.arange(1, len(boxes) + 1) * np.random.Generator(np.random.PCG64(self.seed)).random(len(boxes))
        return boxes[np.argsort(rank)]
