"""Mapper from dataset dicts to the inputs of T-WDet, S-Cls and their distillation."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from detectron2.data import detection_utils as utils
from detectron2.structures import Boxes, BoxMode, Instances
from detectron2.utils.logger import log_first_n
from torch.nn.functional import interpolate

from .color import ColorAugment
from .geometry import Geometry, draw_window
from .image import ImageFile, PixelImage, resize_to_square
from .proposal_store import check_stamp
from .types import DatasetDict, MappedImage, Proposals, View

_IMAGE_KEYS = ("file_name", "image_id", "height", "width")


@dataclass
class MultiLabelMapper:
    """Read an image, resize it or a crop of it to a square and return it with its labels.

    Takes a :class:`DatasetDict` and returns a :class:`MappedImage`:

    - ``image``, ``geometry``, ``labels``, and ``file_name``, ``image_id``, ``height``, ``width`` of the dataset dict;
    - ``proposals`` if the dataset dict has Detectron2's ``proposal_boxes``; of a crop those that it shows;
    - ``teacher`` with ``teacher_sizes``: the whole image, not mirrored, with all proposals, at the teacher's size;
    - ``views`` with ``tta``: every view to average over, each resized from the original pixels.

    Annotations never reach the output.

    Args:
        is_train: draw a crop, a flip and a size at random; otherwise the whole image at the first size.
        num_classes: K.
        sizes: sizes of the square in pixels.
        image_format: channel order, "RGB" or "BGR".
        flip_prob: probability of a horizontal flip.
        crop_scale: limits of the area of a random crop, as fractions of the image's; None for no crops. With proposals,
            a crop that shows none is drawn again, up to 10 times, then the whole image is taken.
        crop_ratio: limits of the width over the height of a crop, before it is resized to a square.
        min_visible: a crop shows a proposal if it has at least this fraction of its area; the proposal is clipped.
        num_proposals: maximum number of proposals per image: the best ones. An image with fewer has R_n of them.
        min_proposal_area: smallest area of a proposal, as a share of the image; smaller ones are left out before
            ``num_proposals`` are selected.
        teacher_sizes: as ``sizes``, for the teacher's view; None for no such view.
        teacher_cached: leave out the pixels of the teacher's view, because its outputs are read from a cache.
        fast_decode: decode JPEGs at a reduced size that is not below the view's; in training, and for the teacher's
            view, resize with PyTorch, which differs by 1 of 255 at most and is faster. False gives the pixels of
            Detectron2's mapper (docs/data_loading.md). Use the same value in training and testing.
        color_augment: RandAugment policy of :class:`.color.ColorAugment` for ``image`` in training, never for the
            teacher's view; None for none.
        tta: at test time, also return the image at each of ``sizes``, plain and, unless ``flip_prob`` is 0, mirrored.

    Raises:
        ValueError: names the file; it cannot be read (ImageError), its size differs from the dataset dict's, its
            proposals were computed for another image or are not finite, or a label is out of range.
    """

    is_train: bool
    num_classes: int
    sizes: Sequence[int]
    image_format: str = "RGB"
    flip_prob: float = 0.5
    crop_scale: Sequence[float] | None = None
    crop_ratio: Sequence[float] = (3 / 4, 4 / 3)
    min_visible: float = 0.5
    num_proposals: int = 500
    min_proposal_area: float = 0.0
    teacher_sizes: Sequence[int] | None = None
    teacher_cached: bool = False
    fast_decode: bool = True
    color_augment: str | None = None
    tta: bool = False

    def __post_init__(self) -> None:
        if self.image_format not in ("RGB", "BGR"):
            raise ValueError(f"image_format is {self.image_format!r}: use 'RGB' or 'BGR'")
        for name in ("crop_scale", "crop_ratio"):
            limits = getattr(self, name)
            if limits is not None and (len(limits) != 2 or not 0 < limits[0] <= limits[1]):
                raise ValueError(f"{_keys(name)} is {list(limits)}: give two limits above 0, the lower one first")
        if not 0 < self.min_visible <= 1:
            raise ValueError(f"{_keys('min_visible')} is {self.min_visible}: give a fraction above 0, at most 1")
        if self.crop_scale and self.crop_scale[1] > 1:
            limits = list(self.crop_scale)
            raise ValueError(f"{_keys('crop_scale')} is {limits}: at most 1, the whole image")
        self.sizes, self.teacher_sizes = list(self.sizes), list(self.teacher_sizes or [])  # configs pass a ListConfig
        policy = self.color_augment if self.is_train else None
        self._augment_colors = None if policy is None else ColorAugment(policy, self.image_format)

    @classmethod
    def from_config(cls, cfg, is_train: bool) -> MultiLabelMapper:
        """Build the mapper of a YAML config, with the pixels of the LazyConfigs.

        The size is ``INPUT_SIZE`` of the model, in training too; ``INPUT.RANDOM_FLIP`` is "horizontal" or "none".

        Args:
            cfg: config with the keys of ``add_wsd_distill_config``.
            is_train: as in the constructor.

        Raises:
            ValueError: a key has a value that the mapper does not know, or crops of Detectron2 are on.
        """
        flips = {"horizontal": 0.5, "none": 0.0}
        if cfg.INPUT.RANDOM_FLIP not in flips:
            raise ValueError(f'INPUT.RANDOM_FLIP is {cfg.INPUT.RANDOM_FLIP!r}: set it to "horizontal" or "none"')
        if cfg.INPUT.CROP.ENABLED:
            raise ValueError(
                "INPUT.CROP.ENABLED is true, but Detectron2's crops are not used here: set INPUT.CROP_SCALE, for "
                "example [0.25, 1.0], and INPUT.CROP.ENABLED false"
            )
        node = cfg.MODEL.WSDDN if cfg.MODEL.META_ARCHITECTURE == "WSDDN" else cfg.MODEL.CLASSIFIER
        return cls(
            is_train=is_train,
            num_classes=cfg.MODEL.IMAGE_LEVEL.NUM_CLASSES,
            sizes=[node.INPUT_SIZE],
            image_format=cfg.INPUT.FORMAT,
            flip_prob=flips[cfg.INPUT.RANDOM_FLIP],
            crop_scale=cfg.INPUT.CROP_SCALE or None,
            crop_ratio=cfg.INPUT.CROP_RATIO,
            min_visible=cfg.INPUT.MIN_VISIBLE,
            num_proposals=cfg.MODEL.WSDDN.NUM_PROPOSALS,
            min_proposal_area=cfg.MODEL.WSDDN.MIN_PROPOSAL_AREA,
            fast_decode=cfg.INPUT.FAST_DECODE,
            color_augment=cfg.INPUT.COLOR_AUGMENT or None,
        )

    def __call__(self, dataset_dict: DatasetDict) -> MappedImage:
        output: dict[str, Any] = {key: value for key, value in dataset_dict.items() if key in _IMAGE_KEYS}
        file = ImageFile(dataset_dict["file_name"])
        utils.check_image_size(output, file)
        flip = bool(self.is_train and np.random.rand() < self.flip_prob)
        if "proposal_image" in dataset_dict:
            check_stamp(file.file_name, dataset_dict["proposal_image"], file.stamp)
        proposals = self._select_proposals(dataset_dict, file.shape)
        geometry = self._draw_geometry(file.shape, proposals, flip)
        output.update(
            self._make_view(file, proposals, self._choose_size(self.sizes), geometry, exact=not self.is_train)
        )
        if self.teacher_sizes:
            size, whole = self._choose_size(self.teacher_sizes), Geometry.whole(file.shape)
            view = self._make_view(file, proposals, size, whole, with_image=not self.teacher_cached)
            output["teacher"] = {**view, "image_id": output["image_id"], "image_digest": file.digest}
        if self.tta and not self.is_train:
            flips = (False, True) if self.flip_prob else (False,)
            views = [(size, Geometry.whole(file.shape, f)) for size in self.sizes for f in flips]
            output["views"] = [self._make_view(file, proposals, *view, exact=True) for view in views]
        if self._augment_colors is not None:  # last, so that it does not change the random numbers of flips and sizes
            output["image"] = self._augment_colors(output["image"])
        output["labels"] = self._encode_labels(dataset_dict)
        return cast(MappedImage, output)

    def whole_image(self, file: ImageFile | PixelImage) -> torch.Tensor:
        """Return the pixels of a test view without proposals: (3, size, size) uint8."""
        return self._read_pixels(file, self.sizes[0], Geometry.whole(file.shape), exact=True)

    def _encode_labels(self, dataset_dict: DatasetDict) -> torch.Tensor:
        positive, ignored = dataset_dict["labels"], dataset_dict.get("ignore_labels", [])
        invalid = [k for k in [*positive, *ignored] if not 0 <= k < self.num_classes]
        if invalid:
            valid = f"0 to {self.num_classes - 1} (num_classes - 1)"
            raise ValueError(f"{dataset_dict['file_name']}: labels {invalid} are not class indices, which are {valid}")
        labels = torch.zeros(self.num_classes)
        labels[ignored] = -1
        labels[positive] = 1
        return labels

    def _select_proposals(self, dataset_dict: DatasetDict, image_size: tuple[int, int]) -> Proposals | None:
        if "proposal_boxes" not in dataset_dict:
            return None
        boxes = dataset_dict["proposal_boxes"]
        boxes = BoxMode.convert(boxes, dataset_dict["proposal_bbox_mode"], BoxMode.XYXY_ABS)
        scores = dataset_dict["proposal_objectness_logits"]
        limits = (self.num_proposals, self.min_proposal_area)
        return top_proposals(boxes, scores, *limits, image_size, dataset_dict["file_name"])

    def _choose_size(self, sizes: Sequence[int]) -> int:
        return int(np.random.choice(sizes)) if self.is_train else sizes[0]

    def _draw_geometry(self, shape: tuple[int, int], proposals: Proposals | None, flip: bool) -> Geometry:
        if self.is_train and self.crop_scale is not None:
            for _ in range(10):
                geometry = Geometry(draw_window(shape, self.crop_scale, self.crop_ratio), shape, flip)
                if proposals is None or (geometry.visible(proposals[0]) >= self.min_visible).any():
                    return geometry
        return Geometry.whole(shape, flip)

    def _make_view(
        self,
        file: ImageFile,
        proposals: Proposals | None,
        size: int,
        geometry: Geometry,
        *,
        with_image: bool = True,
        exact: bool = False,
    ) -> View:
        view: View = {"geometry": geometry}
        if with_image:
            view["image"] = self._read_pixels(file, size, geometry, exact)
        if proposals is not None:
            boxes, scores = proposals
            (rows,) = np.nonzero(geometry.visible(boxes) >= self.min_visible)
            instances = Instances((size, size))
            moved = geometry.apply_boxes(boxes[rows], size)
            instances.proposal_boxes = Boxes(torch.as_tensor(moved, dtype=torch.float32))
            instances.scores = torch.as_tensor(scores[rows], dtype=torch.float32)
            instances.rows = torch.from_numpy(rows)
            view["proposals"] = instances
        return view

    def _read_pixels(self, file: ImageFile | PixelImage, size: int, geometry: Geometry, exact: bool) -> torch.Tensor:
        """Return (3, size, size) uint8, independent of other views; if ``exact``, the pixels of ``Tagger.read``."""
        window = None if geometry.is_whole else geometry.window
        decoded = file.pixels(min_size=size if self.fast_decode else None, window=window)
        if self.fast_decode and not exact:
            pixels = resize_with_torch(decoded, size)
        else:
            pixels = torch.from_numpy(resize_to_square(decoded, size)).permute(2, 0, 1)
        flips = ((0, self.image_format == "BGR"), (2, geometry.flip))
        return pixels.flip([axis for axis, flipped in flips if flipped]).contiguous()


def _keys(option: str) -> str:
    """The option of a training's mapper in both kinds of config."""
    return f"dataloader.train.mapper.{option} (in YAML INPUT.{option.upper()})"


def resize_with_torch(pixels: np.ndarray, size: int) -> torch.Tensor:
    """Resize (H, W, 3) uint8 to (3, size, size), as ``resize_to_square`` up to 1 of 255, in a third of its time."""
    images = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    return interpolate(images, (size, size), mode="bilinear", antialias=True)[0]


def top_proposals(
    boxes: np.ndarray,
    scores: np.ndarray,
    num_proposals: int,
    min_area: float,
    image_size: tuple[int, int],
    image_name: str,
) -> Proposals:
    """Select the best proposals of an image that are large enough, at most ``num_proposals``.

    An image without proposals gets the whole image with score 1, and the first such image is logged.

    Args:
        boxes: (R, 4) XYXY_ABS, best first.
        scores: (R,).
        min_area: smallest area of a box, as a share of the image.
        image_size: (height, width).
        image_name: for the log.

    Returns:
        Boxes (R, 4) and scores (R,), where 1 <= R <= num_proposals.

    Raises:
        ValueError: boxes or scores are not finite.
    """
    if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        raise ValueError(f"{image_name}: its proposals have NaN or infinity; create the proposal store again")
    height, width = image_size
    large = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) >= min_area * height * width
    boxes, scores = boxes[large], scores[large]
    if len(boxes) == 0:
        text = f"{image_name} has no proposals" + (f" of at least {min_area:g} of its area" if min_area else "")
        text += " and gets the whole image with score 1 (logged for the first such image only)"
        log_first_n(logging.WARNING, text)
        boxes = np.array([[0, 0, width, height]], dtype=np.float32)
        scores = np.ones(1, dtype=np.float32)
    return boxes[:num_proposals].copy(), scores[:num_proposals].copy()
