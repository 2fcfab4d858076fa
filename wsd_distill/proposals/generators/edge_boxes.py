"""EdgeBoxes (Zitnick and Dollar, ECCV 2014) with OpenCV."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import torch
from torchvision.ops import nms

from ...data.types import Proposals
from .proposer import Proposer


@dataclass(frozen=True)
class EdgeBoxes(Proposer):
    """EdgeBoxes on several sizes of the image.

    Large objects are found in a small image, small ones in a large image (docs/proposals.md). Boxes of all sizes are
    merged by NMS. Scores above 1, which boxes full of edges can reach, become 1; their order stays.

    Args:
        max_boxes: maximum number of boxes per image.
        sides: longest sides in pixels to which the image is resized for each search.
        alpha: IoU between neighbouring boxes of the sliding-window search.
        beta: IoU above which a box suppresses a lower-scoring one. The paper recommends a value slightly above the IoU
            of a detection: 0.55 for an IoU of 0.5, 0.75 for 0.7.
        min_score: boxes with a lower score are dropped.
        min_box_area: minimum area of a box, in pixels of the resized image.
        hysteresis: lower and upper threshold of the Canny edges, on gradients of 3 x 3 Sobel filters.
        edge_model: OpenCV's structured-forest model (``model.yml.gz``); None uses thinned colour gradients.

    Raises:
        ValueError: ``sides`` is empty or not positive.
        FileNotFoundError: ``edge_model`` is missing.
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

    def __post_init__(self) -> None:
        for name in ("sides", "hysteresis"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # configs pass lists
        if not self.sides or min(self.sides) < 1:
            raise ValueError(f"sides {list(self.sides)}: give one or more positive numbers of pixels")
        if self.edge_model is not None and not os.path.isfile(self.edge_model):
            raise FileNotFoundError(f"edge_model: no structured-forest model {self.edge_model}")

    def prepare(self) -> None:
        check_ximgproc(self.name, "createEdgeBoxes")

    @property
    def parameters(self) -> dict:
        return {**asdict(self), "edge_model": self.edge_model and os.path.basename(self.edge_model)}

    def __call__(self, image: np.ndarray) -> Proposals:
        self.prepare()
        found = [self._search(image, side) for side in self.sides]
        boxes, scores = (np.concatenate(arrays) for arrays in zip(*found))
        if len(found) > 1:
            kept = nms(torch.from_numpy(boxes), torch.from_numpy(scores), self.beta)[: self.max_boxes].numpy()
            boxes, scores = boxes[kept], scores[kept]
        # A score is a sum of edge strengths over a power of the box's perimeter: small boxes full of texture exceed 1.
        return boxes, scores.clip(0, 1)  # last, so that NMS has ranked them

    def _search(self, image: np.ndarray, side: int) -> Proposals:
        height, width = image.shape[:2]
        resized = resize_longest_side(image, side)
        edges, orientation = self._gradient_edges(resized) if self.edge_model is None else self._model_edges(resized)
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
        corner, extent = np.hsplit(np.asarray(found), 2)
        scale = np.array([width / resized.shape[1], height / resized.shape[0]] * 2)
        boxes = np.hstack([corner, corner + extent]) * scale
        return boxes.clip(0, [width, height] * 2).astype(np.float32), scores.reshape(-1).astype(np.float32)

    def _gradient_edges(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Compute edge strength (0..1) and gradient direction (0..pi), (H, W) float32.

        EdgeBoxes groups neighbouring edge pixels, so its run time explodes on thick edges: Canny thins them.
        """
        smooth = cv2.GaussianBlur(image, (9, 9), 2.0)
        dx, dy = (cv2.Sobel(smooth, cv2.CV_16S, *order) for order in ((1, 0), (0, 1)))
        strength = np.hypot(dx.astype(np.float32), dy)
        strongest = strength.argmax(axis=2)[..., None]  # colour channel with the steepest gradient
        dx, dy, strength = (np.take_along_axis(a, strongest, axis=2)[..., 0] for a in (dx, dy, strength))
        dx, dy = np.ascontiguousarray(dx), np.ascontiguousarray(dy)
        thin = cv2.Canny(dx, dy, *self.hysteresis, L2gradient=True) > 0
        edges = np.where(thin, strength, 0).astype(np.float32)
        orientation = np.mod(np.arctan2(dy.astype(np.float32), dx.astype(np.float32)), np.float32(np.pi))
        return edges / max(float(edges.max()), 1.0), orientation

    def _model_edges(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        detector = _edge_detector(self.edge_model)
        edges = detector.detectEdges(image.astype(np.float32) / 255)
        orientation = detector.computeOrientation(edges)
        return detector.edgesNms(edges, orientation), orientation


def check_ximgproc(method: str, function: str) -> None:
    """Raise ValueError if OpenCV lacks its contrib modules.

    Args:
        method: name of the proposer, for the message.
        function: path of the function that it calls, in ``cv2.ximgproc``.
    """
    found: Any = getattr(cv2, "ximgproc", None)
    for part in function.split("."):
        found = getattr(found, part, None)
    if found is None:
        raise ValueError(
            f"{method} calls cv2.ximgproc.{function}, which the installed OpenCV {cv2.__version__} lacks: run `pip "
            "uninstall opencv-python opencv-python-headless`, then `pip install --force-reinstall "
            "opencv-contrib-python-headless`"
        )


@lru_cache(maxsize=1)
def _edge_detector(model: str) -> cv2.ximgproc.StructuredEdgeDetection:
    """Read the model once per process, because reading takes seconds."""
    return cv2.ximgproc.createStructuredEdgeDetection(model)


def resize_longest_side(image: np.ndarray, side: int) -> np.ndarray:
    """Resize (H, W, C) to a longest side of ``side`` pixels, keeping the aspect."""
    height, width = image.shape[:2]
    longest = max(height, width)
    if side == longest:
        return image
    size = [max(1, round(extent * side / longest)) for extent in (width, height)]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if side < longest else cv2.INTER_LINEAR)
