"""EdgeBoxes (Zitnick and Dollar, ECCV 2014) through OpenCV: photo in, class-agnostic object proposals out."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from functools import lru_cache

import cv2
import numpy as np
import torch
from torchvision.ops import nms

from .resize import resize_longest_side


@dataclass(frozen=True)
class EdgeBoxes:
    """Callable: image (H, W, 3) uint8 RGB -> boxes (R, 4) XYXY_ABS in its pixels, scores (R,), both float32.

    The best box comes first; R is at most ``max_boxes`` and may be 0. Safe to pickle. The photo is searched at
    several sizes and the boxes of all compete: large objects are found in a small picture, small ones in a large
    picture (docs/proposals.md).

    Args:
        max_boxes: how many boxes to keep of an image.
        sides: longest sides, in pixels, that the photo is scaled to, up or down, and searched at.
        alpha: IoU between neighbours of the sliding-window search.
        beta: IoU from which a box suppresses a lesser one. The paper wants it a little above the IoU that
            counts as a find: 0.55 for an IoU of 0.5, 0.75 for one of 0.7.
        min_score: boxes below are dropped.
        min_box_area: smallest box, in pixels of the scaled photo.
        hysteresis: thresholds of the gradient edges, of 3 x 3 Sobel filters: a line goes on while it is above the
            first, and is above the second somewhere.
        edge_model: OpenCV's structured-forest model (``model.yml.gz``); None takes thinned colour gradients.

    Raises:
        ValueError: no ``sides``, or one that is not positive.
        FileNotFoundError: no such ``edge_model``.
    """

    max_boxes: int = 500
    sides: tuple[int, ...] = (192, 320, 640)
    alpha: float = 0.65
    beta: float = 0.55
    min_score: float = 0.01
    min_box_area: float = 150.0
    hysteresis: tuple[float, float] = (30, 60)
    edge_model: str | None = None

    name = "edge_boxes"
    in_workers = True

    def __post_init__(self) -> None:
        for name in ("sides", "hysteresis"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # configs write lists
        if not self.sides or min(self.sides) < 1:
            raise ValueError(f"sides {list(self.sides)}: give one or several positive numbers of pixels")
        if self.edge_model is not None and not os.path.isfile(self.edge_model):
            raise FileNotFoundError(f"no structured-forest edge model {self.edge_model}")

    @property
    def parameters(self) -> dict:
        """What boxes depend on, as JSON; the model by its file name, wherever it lies."""
        return {**asdict(self), "edge_model": self.edge_model and os.path.basename(self.edge_model)}

    def __call__(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = [self._search(image, side) for side in self.sides]
        if len(found) == 1:
            return found[0]
        boxes, scores = (np.concatenate(arrays) for arrays in zip(*found))
        kept = nms(torch.from_numpy(boxes), torch.from_numpy(scores), self.beta)[: self.max_boxes].numpy()
        return boxes[kept], scores[kept]

    def _search(self, image: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
        height, width = image.shape[:2]
        picture = resize_longest_side(image, side)
        edges, orientation = self._gradient_edges(picture) if self.edge_model is None else self._model_edges(picture)
        search = cv2.ximgproc.createEdgeBoxes(
            alpha=self.alpha,
            beta=self.beta,
            minScore=self.min_score,
            maxBoxes=self.max_boxes,
            minBoxArea=self.min_box_area,
        )
        found, scores = search.getBoundingBoxes(edges, orientation)
        if len(found) == 0:
            return np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
        corner, extent = found[:, :2], found[:, 2:]
        scale = np.array([width / picture.shape[1], height / picture.shape[0]] * 2)
        boxes = np.hstack([corner, corner + extent]) * scale
        return boxes.clip(0, [width, height] * 2).astype(np.float32), scores.reshape(-1).astype(np.float32)

    def _gradient_edges(self, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Edge strength in 0..1, edges one pixel wide, and direction of the gradient in 0..pi; (H, W) float32.

        EdgeBoxes groups neighbouring edge pixels, so its time explodes where edges are thick: Canny thins them.
        """
        smooth = cv2.GaussianBlur(picture, (9, 9), 2.0)
        dx, dy = (cv2.Sobel(smooth, cv2.CV_16S, *order) for order in ((1, 0), (0, 1)))
        strength = np.hypot(dx.astype(np.float32), dy)
        strongest = strength.argmax(axis=2)[..., None]  # the colour channel whose gradient is steepest
        dx, dy, strength = (np.take_along_axis(a, strongest, axis=2)[..., 0] for a in (dx, dy, strength))
        dx, dy = np.ascontiguousarray(dx), np.ascontiguousarray(dy)
        thin = cv2.Canny(dx, dy, *self.hysteresis, L2gradient=True) > 0
        edges = np.where(thin, strength, 0).astype(np.float32)
        orientation = np.mod(np.arctan2(dy.astype(np.float32), dx.astype(np.float32)), np.float32(np.pi))
        return edges / max(float(edges.max()), 1.0), orientation

    def _model_edges(self, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        detector = _edge_detector(self.edge_model)
        edges = detector.detectEdges(picture.astype(np.float32) / 255)
        orientation = detector.computeOrientation(edges)
        return detector.edgesNms(edges, orientation), orientation


@lru_cache(maxsize=1)
def _edge_detector(model: str) -> cv2.ximgproc.StructuredEdgeDetection:
    """Once per process: reading the forest takes seconds."""
    return cv2.ximgproc.createStructuredEdgeDetection(model)
