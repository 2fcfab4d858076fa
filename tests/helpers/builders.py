"""Small models, batches, proposers and config overrides used by several tests."""

import wsd_distill  # noqa: F401

# isort: split
import numpy as np
import torch
from detectron2.structures import Boxes, Instances
from torch import nn

from wsd_distill.data.geometry import Geometry
from wsd_distill.distillation import LayerPair
from wsd_distill.modeling import WSDDN, FCHead, GlobalPoolHead, MultiLabelClassifier, SmallConvNet

K = 3
CLASSES = ["ball", "box", "wedge"]
PIXELS = {"pixel_mean": [100.0, 110.0, 120.0], "pixel_std": [50.0, 50.0, 50.0], "image_format": "RGB"}


def own_images(train, val=None, test=None, name: str = "pets") -> list[str]:
    """Return overrides for own images: a list for each split, or one for all splits."""
    files = {"train": train, "val": val or train, "test": test or train}
    return [f"dataset.name={name}", *(f"dataset.files.{split}={file}" for split, file in files.items())]


def make_teacher(norm: str = "", dropout: float = 0.0, channels: int = 6, **options) -> WSDDN:
    return WSDDN(
        backbone=SmallConvNet(channels=[4, channels], convs=[1, 1], norm=norm),
        in_feature="conv2",
        head=FCHead(input_shape=(channels, 3, 3), dims=[8], dropout=dropout),
        num_classes=K,
        class_names=CLASSES,
        pooler_size=3,
        **PIXELS,
        **options,
    )


def make_student(norm: str = "", channels: int = 6, class_names=CLASSES) -> MultiLabelClassifier:
    return MultiLabelClassifier(
        backbone=SmallConvNet(channels=[4, channels], convs=[1, 1], norm=norm),
        in_feature="conv2",
        head=GlobalPoolHead(channels=channels),
        num_classes=K,
        class_names=class_names,
        **PIXELS,
    )


def make_pair() -> LayerPair:
    return LayerPair(teacher="conv2", student="conv2")


class OneWeight(nn.Module):
    """A model with one weight, initially 1; ``losses`` maps the weight and the batch to losses."""

    def __init__(self, losses):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.losses = losses

    def forward(self, batch):
        return self.losses(self.weight.sum(), batch)


def make_view(generator: torch.Generator, side: int, boxes: torch.Tensor, scores: torch.Tensor) -> dict:
    """Return an input with a noise image; ``boxes`` are relative to its size."""
    rows = torch.arange(len(boxes))
    proposals = Instances((side, side), proposal_boxes=Boxes(boxes * side), scores=scores, rows=rows)
    image = torch.randint(0, 256, (3, side, side), generator=generator, dtype=torch.uint8)
    return {"image": image, "proposals": proposals, "geometry": Geometry.whole((40, 60))}


def make_batch(images: int = 4, seed: int = 0, sizes: tuple[int, int] = (16, 32), num_classes: int = K) -> list[dict]:
    """Return inputs of a Distiller: student and teacher at two sizes in pixels, 4 to 7 proposals per image."""
    generator = torch.Generator().manual_seed(seed)
    batch = []
    for i in range(images):
        count = 4 + i % 4
        corner = torch.rand(count, 2, generator=generator) * 0.5
        boxes = torch.cat([corner, corner + 0.2 + 0.3 * torch.rand(count, 2, generator=generator)], dim=1)
        scores = torch.rand(count, generator=generator)
        record = make_view(generator, sizes[0], boxes, scores)
        record["teacher"] = make_view(generator, sizes[1], boxes, scores)
        record["labels"] = record["teacher"]["labels"] = torch.eye(num_classes)[i % num_classes]
        batch.append(record)
    return batch


class Proposer:
    """Returns one box of width image number + 1 and records calls; ``side_effect``: image -> exception or result."""

    name = "counting"
    in_workers = True

    def __init__(self, parameters=None, side_effect=None):
        self.parameters = parameters or {}
        self.side_effect = side_effect or {}
        self.calls = []

    def prepare(self):
        """Nothing is missing."""

    def __call__(self, image):
        number = int(image[0, 0, 0])
        self.calls.append(number)
        side_effect = self.side_effect.get(number)
        if isinstance(side_effect, BaseException):
            raise side_effect
        if side_effect is not None:
            return side_effect
        return np.array([[0, 0, number + 1, 1]], np.float32), np.array([0.5], np.float32)
