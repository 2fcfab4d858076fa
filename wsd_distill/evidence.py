"""What T-WDet finds in a photo: the boxes of each class, from the folder of its run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import torch
from detectron2.config import instantiate
from detectron2.structures import Instances
from omegaconf import DictConfig
from torch import Tensor, nn

from .data.image import Photo, open_photo
from .data.mapper import MultiLabelMapper
from .modeling import WSDDN
from .modeling.checkpoints.load import load_state
from .proposals.image_proposals import ImageProposals
from .tagging.from_run import WEIGHTS, open_run


class Box(TypedDict):
    """A box (x0, y0, x1, y1) in pixels of the upright photo, and its score, 0 to 1."""

    box: list[float]
    score: float


class Evidence:
    """T-WDet with the generator of its proposals: photo -> boxes of each class.

    Args:
        model: T-WDet in evaluation mode.
        mapper: of a test split; sets the size and the decoding of photos.
        proposals: computes the proposals of a photo.
        score_threshold: boxes below are left out; the default is that of Detectron2's detectors.
        boxes_per_class: maximum number of boxes of a class.

    Attributes:
        class_names: of the weights.
    """

    def __init__(
        self,
        model: WSDDN,
        mapper: MultiLabelMapper,
        proposals: ImageProposals,
        score_threshold: float = 0.05,
        boxes_per_class: int = 3,
    ):
        self.model, self.mapper, self.proposals = model, mapper, proposals
        self.score_threshold, self.boxes_per_class = score_threshold, boxes_per_class
        self.class_names: list[str] = list(model.class_names or [])

    @classmethod
    def load(cls, run_folder: str | os.PathLike, *, device: str | None = None, **options) -> Evidence:
        """Load the T-WDet of a run of ``tools/train_net.py``, with the generator of proposals of its config.

        Args:
            device: None: "cuda" if there is a GPU, otherwise "cpu".
            options: ``score_threshold`` and ``boxes_per_class``.

        Raises:
            FileNotFoundError: the run has no config or weights, or the generator lacks a file.
            ValueError: the run trained no T-WDet, a file is damaged, or the generator lacks a dependency.
        """
        run = Path(run_folder)
        cfg, state = open_run(run)
        if cfg.model.get("proposer", "") is None:
            cfg.model.proposer = "${image_proposals}"
        cfg.train.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        model = build_predictor(cfg, state, str(run / WEIGHTS))
        if not isinstance(model, WSDDN) or not isinstance(model.proposer, ImageProposals):
            raise ValueError(f"{run} trained {type(model).__name__}, and only T-WDet gives boxes: give its run")
        mapper = instantiate(next(iter(cfg.dataloader.test.values())).loader.mapper)
        return cls(model, mapper, model.proposer, **options)

    def __call__(self, image: Photo) -> dict[str, list[Box]]:
        """Return the boxes of each class that has any, best first, after the model's NMS.

        Args:
            image: path, bytes of a file, image of Pillow, or (H, W, 3) uint8 RGB.

        Raises:
            ImageError: the file cannot be read as an image; names it.
            ValueError: an array has another shape or type, or the generator of proposals failed.
        """
        found = self.detect(image)
        found = found[found.scores >= self.score_threshold]
        found = best_boxes(found, range(len(self.class_names)), self.boxes_per_class)
        boxes: dict[str, list[Box]] = {}
        for label, box in name_boxes(found, self.class_names):
            boxes.setdefault(label, []).append(box)
        return boxes

    @torch.no_grad()
    def detect(self, image: Photo) -> Instances:
        """Return all detections of a photo, best first: ``pred_boxes``, ``scores`` and ``pred_classes``, on the CPU."""
        file = open_photo(image)
        pixels = self.mapper.whole_image(file)
        height, width = file.shape
        proposals = self.proposals.compute(file.pixels(), (pixels.shape[1], pixels.shape[2]), file.file_name)
        x = {"image": pixels, "proposals": proposals, "height": height, "width": width, "file_name": file.file_name}
        return self.model([x])[0]["instances"].to("cpu")


def build_predictor(cfg: DictConfig, state: dict[str, Tensor], weights: str) -> nn.Module:
    """Build the model of a config to predict photos, on ``train.device``; its generator of proposals is prepared first.

    Args:
        state: read from the file ``weights``.
    """
    model = instantiate(cfg.model)
    proposer = getattr(model, "proposer", None)
    if isinstance(proposer, ImageProposals):
        proposer.proposer.prepare()  # so that its errors come first
    load_state(model.to(cfg.train.device).eval(), state, weights)
    return model


def best_boxes(instances: Instances, classes: Sequence[int], boxes_per_class: int) -> Instances:
    """Select the best detections of each of the ``classes``, class after class; ``instances`` are sorted by score."""
    chosen = [(instances.pred_classes == k).nonzero().flatten()[:boxes_per_class] for k in classes]
    return instances[torch.cat([torch.zeros(0, dtype=torch.long), *chosen])]


def name_boxes(instances: Instances, class_names: Sequence[str]) -> list[tuple[str, Box]]:
    """Return label and box of each detection."""
    columns = (instances.pred_classes.tolist(), instances.scores.tolist(), instances.pred_boxes.tensor.tolist())
    return [(class_names[k], Box(box=box, score=score)) for k, score, box in zip(*columns)]
