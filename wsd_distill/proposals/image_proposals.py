"""Proposals computed by a running model, for DefaultPredictor and new images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from detectron2.config import configurable
from detectron2.data import transforms as T
from detectron2.structures import Boxes, Instances

from ..data.image import read_rgb
from ..data.mapper import top_proposals
from ..data.proposal_store import check_finite, check_scores, clip_boxes
from ..data.types import Proposals
from .generators import EdgeBoxes


class ImageProposals:
    """Compute the proposals of a model input.

    The file named by the input is searched, as for a proposal store. Without a file, or if its size is not the input's
    ``height`` and ``width``, the input image is first resized to these, because proposals depend on the aspect ratio
    and the size of an image; details lost in the first resizing stay lost.

    Args:
        proposer: a :class:`Proposer`, or another function with its arguments and results.
        num_proposals, min_proposal_area: as in the mapper.
        image_format: channel order of the inputs, "RGB" or "BGR".
    """

    @configurable
    def __init__(
        self,
        *,
        proposer: Callable[[np.ndarray], Proposals],
        num_proposals: int = 500,
        min_proposal_area: float = 0.0,
        image_format: str = "RGB",
    ):
        if image_format not in ("RGB", "BGR"):
            raise ValueError(f"image_format is {image_format!r}: use 'RGB' or 'BGR'")
        self.proposer, self.image_format = proposer, image_format
        self.num_proposals, self.min_proposal_area = num_proposals, min_proposal_area

    @classmethod
    def from_config(cls, cfg):
        return {
            "proposer": EdgeBoxes(**{name.lower(): value for name, value in cfg.MODEL.EDGE_BOXES.items()}),
            "num_proposals": cfg.MODEL.WSDDN.NUM_PROPOSALS,
            "min_proposal_area": cfg.MODEL.WSDDN.MIN_PROPOSAL_AREA,
            "image_format": cfg.INPUT.FORMAT,
        }

    def __call__(self, x: dict) -> Instances:
        """Compute proposals in pixels of the input image.

        Args:
            x: ``image`` (3, H, W) in 0..255 and, where known, ``height``, ``width`` and ``file_name``.

        Returns:
            Instances with ``proposal_boxes`` (R, 4) and ``scores`` (R,), where 1 <= R <= num_proposals.

        Raises:
            ImageError: the file cannot be read.
            ValueError: the proposer's boxes or scores are not finite, or its scores not in 0..1.
        """
        return self.compute(self._load_image(x), tuple(x["image"].shape[-2:]), x.get("file_name", "an image"))

    def compute(self, image: np.ndarray, input_size: tuple[int, int], name: str) -> Instances:
        """Compute the proposals of an image that is resized to ``input_size`` (height, width) for the model.

        Args:
            image: (H, W, 3) uint8 RGB, at full size.
            name: of the image, in errors.

        Returns, raises: as ``__call__``.
        """
        size = image.shape[:2]
        boxes, scores = self.proposer(image)
        check_finite(name, boxes, scores)
        check_scores(name, scores)
        boxes, scores, *_ = clip_boxes(boxes, scores, *size)  # as for a store
        boxes, scores = top_proposals(boxes, scores, self.num_proposals, self.min_proposal_area, size, name)
        boxes = T.ResizeTransform(*size, *input_size).apply_box(boxes)
        return Instances(
            input_size,
            proposal_boxes=Boxes(torch.as_tensor(boxes, dtype=torch.float32)),
            scores=torch.as_tensor(scores, dtype=torch.float32),
        )

    def _load_image(self, x: dict) -> np.ndarray:
        """Return the original image, (height, width, 3) uint8 RGB."""
        height, width = x.get("height", x["image"].shape[-2]), x.get("width", x["image"].shape[-1])
        if "file_name" in x:
            image = read_rgb(x["file_name"])
            if image.shape[:2] == (height, width):
                return image
        pixels = x["image"].round().byte().permute(1, 2, 0).cpu().numpy()  # (H, W, 3)
        resize = T.ResizeTransform(*pixels.shape[:2], height, width)
        return np.ascontiguousarray(resize.apply_image(pixels[..., ::-1] if self.image_format == "BGR" else pixels))
