"""Types of dataset dicts, proposals and the outputs of the mapper."""

from __future__ import annotations

from typing import Any, TypedDict

import numpy as np
from detectron2.structures import BoxMode, Instances
from torch import Tensor

from .geometry import Geometry
from .image import ImageStamp

Proposals = tuple[np.ndarray, np.ndarray]  # boxes (R, 4) and scores (R,)


class _Annotation(TypedDict):
    bbox: list[float]  # 4 numbers in pixels of the original image, see bbox_mode
    bbox_mode: BoxMode
    category_id: int  # class index, 0..K-1


class Annotation(_Annotation, total=False):
    """A ground-truth box, used for evaluation only."""

    iscrowd: int
    difficult: int


class _DatasetDict(TypedDict):
    file_name: str
    image_id: int | str  # unique within the dataset, also as a string
    labels: list[int]  # indices of the positive classes, 0..K-1


class DatasetDict(_DatasetDict, total=False):
    """One image of a dataset registered in Detectron2's DatasetCatalog.

    ``file_name``, ``image_id`` and ``labels`` are required; ``get_dataset_dicts`` checks them. The proposal keys are
    Detectron2's and are added by the loader.
    """

    height: int  # of the upright image (Exif orientation applied), in pixels
    width: int
    ignore_labels: list[int]  # classes that are neither positive nor negative
    annotations: list[Annotation]
    faults: list[tuple[str, str]]  # kind and description of what is wrong with annotations, for check_dataset
    proposal_boxes: np.ndarray  # (R, 4), see proposal_bbox_mode
    proposal_objectness_logits: np.ndarray  # (R,), descending
    proposal_bbox_mode: BoxMode
    proposal_image: ImageStamp  # image file that the proposals belong to


class View(TypedDict, total=False):
    """An image as one model receives it, a square of ``size`` pixels."""

    image: Tensor  # (3, size, size) uint8; absent from the teacher's view if its outputs are cached
    # proposal_boxes (R, 4) in pixels of the view, scores (R,), and rows (R,), their ranks in the image; R differs
    proposals: Instances
    geometry: Geometry  # the part of the image that the view shows
    image_id: Any  # in ``teacher``
    image_digest: bytes  # in ``teacher``: hash of the image file


class MappedImage(View, total=False):
    """Output of ``MultiLabelMapper``: the student's view and keys of the image."""

    file_name: str
    height: int
    width: int
    labels: Tensor  # (K,) float32: 1 positive, 0 negative, -1 ignored; fractions in mixed images
    mix: Any  # data.mix.Mix, where the images of the batch were mixed
    unmixed_labels: Tensor  # (K,) of the image itself, where they were mixed
    teacher: View
    views: list[View]  # for test-time augmentation
