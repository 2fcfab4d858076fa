"""Selective search (Uijlings et al., IJCV 2013) with OpenCV."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import cv2
import numpy as np
import torch
from torchvision.ops import nms

from ...data.types import Proposals
from .edge_boxes import check_ximgproc, resize_longest_side
from .proposer import Proposer

MODES = ("fast", "quality")


@dataclass(frozen=True)
class SelectiveSearch(Proposer):
    """Selective search.

    The method has no scores; the score s_R of a box is its rank, falling evenly from 1 to 1 / R. Boxes are ordered as
    in the paper: larger boxes first, randomly perturbed so that boxes of all sizes are near the top; of two similar
    boxes the later one is dropped. OpenCV's own order depends on the process's random state and is not used.

    Args:
        max_boxes: maximum number of boxes per image.
        beta: IoU above which a box suppresses a later one.
        mode: "fast", or "quality" with more colour spaces and strategies.
        max_side: longest side in pixels to which larger images are shrunk; None does not shrink.
        min_box_side: smaller boxes are dropped; in pixels of the image that is searched.
        seed: seed of the random perturbation.

    Raises:
        ValueError: unknown ``mode``.
    """

    max_boxes: int = 500
    beta: float = 0.8
    mode: str = "fast"
    max_side: int | None = 320
    min_box_side: int = 10
    seed: int = 0

    name = "selective_search"

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"selective search has no mode {self.mode}: choose {' or '.join(MODES)}")

    def prepare(self) -> None:
        check_ximgproc(self.name, "segmentation.createSelectiveSearchSegmentation")

    @property
    def parameters(self) -> dict:
        return {**asdict(self), "scores": "falling rank in (0, 1]"}

    def __call__(self, image: np.ndarray) -> Proposals:
        self.prepare()
        height, width = image.shape[:2]
        resized = image if self.max_side is None else resize_longest_side(image, min(self.max_side, max(height, width)))
        boxes = self._sort(self._search(resized))
        rank = torch.arange(len(boxes), 0, -1, dtype=torch.float32)
        boxes = boxes[nms(torch.from_numpy(boxes), rank, self.beta)[: self.max_boxes].numpy()]
        scale = np.array([width / resized.shape[1], height / resized.shape[0]] * 2, np.float32)
        scores = np.arange(len(boxes), 0, -1, dtype=np.float32) / max(len(boxes), 1)
        return boxes * scale, scores

    def _search(self, image: np.ndarray) -> np.ndarray:
        """Return (R, 4) float32 XYXY_ABS of at least the minimum size, in arbitrary order."""
        search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
        search.setBaseImage(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        (search.switchToSelectiveSearchFast if self.mode == "fast" else search.switchToSelectiveSearchQuality)()
        found = np.array(search.process(), np.float32).reshape(-1, 4)
        found = found[found[:, 2:].min(axis=1, initial=np.inf) >= self.min_box_side]
        return np.hstack([found[:, :2], found[:, :2] + found[:, 2:]])

    def _sort(self, boxes: np.ndarray) -> np.ndarray:
        area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
        boxes = boxes[np.lexsort([*boxes.T, -area])]
        rank = np.arange(1, len(boxes) + 1) * np.random.Generator(np.random.PCG64(self.seed)).random(len(boxes))
        return boxes[np.argsort(rank)]
