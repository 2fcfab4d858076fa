"""Proposals for one image that a model is given: for Detectron2's DefaultPredictor and for photos of no dataset."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from detectron2.config import configurable
from detectron2.data import transforms as T
from detectron2.structures import Boxes, Instances

from ..data.image import read_rgb
from ..data.mapper import top_proposals
from .boxes import clip_boxes
from .generators.edge_boxes import EdgeBoxes


class ImageProposals:
    """Callable: a model's input without proposals -> its Instances with ``proposal_boxes`` and ``scores``.

    Searched is the file that the input names, as for a proposal store. Without one, or where it is not of the input's
    ``height`` and ``width``, the input's own picture is brought back to these, since a squashed or enlarged photo has
    other proposals than those on which the model was trained; what the resizing has lost stays lost.

    Args:
        proposer: image (H, W, 3) uint8 RGB -> boxes (R, 4) XYXY_ABS and scores (R,), the best first.
        num_proposals: as the mapper's, recycling included.
        image_format: channel order of the inputs, "RGB" or "BGR".
    """

    @configurable
    def __init__(
        self,
        *,
        proposer: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
        num_proposals: int = 500,
        image_format: str = "RGB",
    ):
        if image_format not in ("RGB", "BGR"):
            raise ValueError(f'image_format is "RGB" or "BGR", not {image_format!r}')
        self.proposer, self.num_proposals, self.image_format = proposer, num_proposals, image_format

    @classmethod
    def from_config(cls, cfg):
        return {
            "proposer": EdgeBoxes(**{name.lower(): value for name, value in cfg.MODEL.EDGE_BOXES.items()}),
            "num_proposals": cfg.MODEL.WSDDN.NUM_PROPOSALS,
            "image_format": cfg.INPUT.FORMAT,
        }

    def __call__(self, x: dict) -> Instances:
        """``x``: ``image`` (3, H, W) in 0..255 and, where known, ``height``, ``width`` and ``file_name``.

        Raises:
            ImageError: the file cannot be read.
        """
        size, picture = tuple(x["image"].shape[-2:]), self._picture(x)
        boxes, scores, _ = clip_boxes(*self.proposer(picture), *picture.shape[:2])  # as for a store
        chosen = top_proposals(boxes, scores, self.num_proposals, picture.shape[:2], x.get("file_name", "an image"))
        boxes = torch.as_tensor(T.ResizeTransform(*picture.shape[:2], *size).apply_box(chosen[0]), dtype=torch.float32)
        return Instances(size, proposal_boxes=Boxes(boxes), scores=torch.as_tensor(chosen[1], dtype=torch.float32))

    def _picture(self, x: dict) -> np.ndarray:
        """(height, width, 3) uint8 RGB."""
        height, width = x.get("height", x["image"].shape[-2]), x.get("width", x["image"].shape[-1])
        if "file_name" in x:
            picture = read_rgb(x["file_name"])
            if picture.shape[:2] == (height, width):
                return picture
        pixels = x["image"].round().byte().permute(1, 2, 0).cpu().numpy()  # (H, W, 3)
        resize = T.ResizeTransform(*pixels.shape[:2], height, width)
        return np.ascontiguousarray(resize.apply_image(pixels[..., ::-1] if self.image_format == "BGR" else pixels))
