"""EdgeBoxes (Zitnick and Dollar, ECCV 2014) through OpenCV: photo in, class-agnostic object proposals out."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from functools import lru_cache

import cv2
import numpy as np


@dataclass(frozen=True)
class EdgeBoxes:
    """Callable: image (H, W, 3) uint8 RGB -> boxes (R, 4) XYXY_ABS in its pixels, scores (R,), both float32.

    The best box comes first; R is at most ``max_boxes`` and may be 0. Safe to pickle.

    Args:
        max_boxes: how many boxes to keep of an image.
        alpha: IoU between neighbours of the sliding-window search.
        beta: IoU from which a box suppresses a lesser one. The paper wants it a little above the IoU that
            counts as a find: 0.55 for an IoU of 0.5, 0.75 for one of 0.7; the default lies between.
        min_score: boxes below are dropped.
        min_box_area: smallest box, in pixels of the picture that is searched (see the next two).
        min_side: smaller pictures are first enlarged to this longest side, in pixels: the search moves boxes
            by whole pixels and needs edges that lie apart.
        max_side: larger pictures are first shrunk to this longest side, in pixels; None leaves them.
        edge_model: OpenCV's structured-forest model (``model.yml.gz``); None takes thinned colour gradients.

    Raises:
        FileNotFoundError: no such ``edge_model``.
    """

    max_boxes: int = 500
    alpha: float = 0.65
    beta: float = 0.65
    min_score: float = 0.01
    min_box_area: float = 300.0
    min_side: int = 256
    max_side: int | None = None
    edge_model: str | None = None

    name = "edge_boxes"

    def __post_init__(self) -> None:
        if self.edge_model is not None and not os.path.isfile(self.edge_model):
            raise FileNotFoundError(f"no structured-forest edge model {self.edge_model}")

    @property
    def parameters(self) -> dict:
        """What boxes depend on, as JSON; the model by its file name, wherever it lies."""
        return {**asdict(self), "edge_model": self.edge_model and os.path.basename(self.edge_model)}

    def __call__(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        height, width = image.shape[:2]
        picture = _scaled(image, self.min_side, self.max_side)
        find_edges = _gradient_edges if self.edge_model is None else self._model_edges
        edges, orientation = find_edges(picture)
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

    def _model_edges(self, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        detector = _edge_detector(self.edge_model)
        edges = detector.detectEdges(picture.astype(np.float32) / 255)
        orientation = detector.computeOrientation(edges)
        return detector.edgesNms(edges, orientation), orientation


@lru_cache(maxsize=1)
def _edge_detector(model: str) -> cv2.ximgproc.StructuredEdgeDetection:
    """Once per process: reading the forest takes seconds."""
    return cv2.ximgproc.createStructuredEdgeDetection(model)


def _scaled(image: np.ndarray, min_side: int, max_side: int | None) -> np.ndarray:
    height, width = image.shape[:2]
    longest = max(height, width)
    wanted = max(longest, min_side) if max_side is None else min(max(longest, min_side), max_side)
    if wanted == longest:
        return image
    size = [max(1, round(extent * wanted / longest)) for extent in (width, height)]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if wanted < longest else cv2.INTER_LINEAR)


def _gradient_edges(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Edge strength in 0..1, edges one pixel wide, and direction of the gradient in 0..pi; (H, W) float32.

    EdgeBoxes groups neighbouring edge pixels, so its time explodes where edges are thick: Canny thins them.
    """
    smooth = cv2.GaussianBlur(picture, (9, 9), 2.0)
    dx, dy = (cv2.Sobel(smooth, cv2.CV_16S, *order) for order in ((1, 0), (0, 1)))
    strength = np.hypot(dx.astype(np.float32), dy)
    strongest = strength.argmax(axis=2)[..., None]  # the colour channel whose gradient is steepest
    dx, dy, strength = (np.take_along_axis(a, strongest, axis=2)[..., 0] for a in (dx, dy, strength))
    thin = cv2.Canny(np.ascontiguousarray(dx), np.ascontiguousarray(dy), 60, 120, L2gradient=True) > 0
    edges = np.where(thin, strength, 0).astype(np.float32)
    orientation = np.mod(np.arctan2(dy.astype(np.float32), dx.astype(np.float32)), np.float32(np.pi))
    return edges / max(float(edges.max()), 1.0), orientation
