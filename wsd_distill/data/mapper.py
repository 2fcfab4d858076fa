"""Dataset dicts to what T-WDet, S-Cls and their distillation see."""

from __future__ import annotations

import copy
import logging

import numpy as np
import torch
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T
from detectron2.structures import Boxes, BoxMode, Instances
from detectron2.utils.logger import log_first_n

from .image import ImageFile, resize_to_square


class MultiLabelMapper:
    """Reads an image, squashes it to a square and gives it with its labels, for two views where two are asked for.

    The output has ``image`` (3, H, W) uint8, ``labels`` (K,) float32 (1, 0, or -1 for what is neither: the dict's
    ``ignore_labels``), ``proposals`` where the dataset dict has Detectron2's ``proposal_boxes`` and
    ``proposal_objectness_logits`` (the best first; the loader puts them there), and the dataset dict's file_name,
    image_id, height and width, and ``flip``, whether it is mirrored. With ``teacher_sizes`` it also has ``teacher``, a
    dict of the same image at the teacher's side, with its own ``proposals``. One flip holds for both views. With
    ``tta`` it also has ``views``, over which a model averages: dicts with an ``image`` and the same
    ``proposals``, each made from the file's pixels (resized again, a resized image would blur). No annotation gets out.

    ValueErrors, which name the file: an image that cannot be read (ImageError) or is not of its dict's size; a label
    that is no class index; ``teacher_sizes`` and no proposals.

    Args:
        is_train: flips happen only in training.
        num_classes: K.
        sides: sides in pixels of the square; in training one is drawn for each image, at test time the first is taken.
        image_format: channel order, RGB or BGR.
        flip_prob: probability of a horizontal flip.
        num_proposals: how many an image gets: the best of them, recycled from the best where there are fewer.
        teacher_sizes: as ``sides``, for the teacher's view.
        teacher_cached: the teacher's view comes without its ``image``, for a Distiller that reads a teacher cache.
        fast: JPEGs are decoded at 1/2, 1/4 or 1/8 of their size where neither side gets below the view's, and PyTorch
            resizes; False gives the pixels of Detectron2's own mapper (docs/data_loading.md). Has to be the same in
            training and at test time.
        tta: at test time the image comes in every view of training: at each of ``sides``, as it is and, where
            ``flip_prob`` is not 0, mirrored.
    """

    def __init__(
        self,
        *,
        is_train: bool,
        num_classes: int,
        sides: list[int],
        image_format: str = "RGB",
        flip_prob: float = 0.5,
        num_proposals: int = 500,
        teacher_sizes: list[int] | None = None,
        teacher_cached: bool = False,
        fast: bool = True,
        tta: bool = False,
    ):
        if image_format not in ("RGB", "BGR"):
            raise ValueError(f"image_format is RGB or BGR, not {image_format!r}")
        self.is_train = is_train
        self.num_classes = num_classes
        self.sides = list(sides)
        self.image_format = image_format
        self.flip_prob = flip_prob
        self.num_proposals = num_proposals
        self.teacher_sizes = list(teacher_sizes) if teacher_sizes else None
        self.teacher_cached = teacher_cached
        self.fast = fast
        self.tta = tta

    def __call__(self, dataset_dict: dict) -> dict:
        kept = ("file_name", "image_id", "height", "width")
        output = {key: copy.copy(dataset_dict[key]) for key in kept if key in dataset_dict}
        file = ImageFile(dataset_dict["file_name"])
        utils.check_image_size(output, file)
        flip = bool(self.is_train and np.random.rand() < self.flip_prob)
        boxes_and_scores = self._chosen_proposals(dataset_dict, file.shape)
        output.update(self._view(file, boxes_and_scores, self._side(self.sides), flip))
        if self.teacher_sizes:
            view = self._view(file, boxes_and_scores, self._side(self.teacher_sizes), flip, not self.teacher_cached)
            output["teacher"] = {**view, "image_id": output["image_id"]}
        if self.tta and not self.is_train:
            flips = (False, True) if self.flip_prob else (False,)
            output["views"] = [self._view(file, boxes_and_scores, s, f) for s in self.sides for f in flips]
        output["labels"] = self._labels(dataset_dict)
        return output

    def _labels(self, dataset_dict: dict) -> torch.Tensor:
        positive, ignored = dataset_dict["labels"], dataset_dict.get("ignore_labels", [])
        wrong = [k for k in [*positive, *ignored] if not 0 <= k < self.num_classes]
        if wrong:
            file, last = dataset_dict["file_name"], self.num_classes - 1
            raise ValueError(
                f"{file}: labels {wrong} are no class indices, which go from 0 to {last} (num_classes - 1)"
            )
        labels = torch.zeros(self.num_classes)
        labels[ignored] = -1
        labels[positive] = 1
        return labels

    def _chosen_proposals(self, dataset_dict: dict, image_size: tuple[int, int]) -> tuple | None:
        """(R, 4) boxes and (R,) scores, R being num_proposals; the whole image with score 1 where there is none."""
        if "proposal_boxes" not in dataset_dict:
            if self.teacher_sizes:
                file = dataset_dict["file_name"]
                raise ValueError(f"{file}: there are no proposals for the teacher, set dataloader.train.proposals")
            return None
        mode = dataset_dict["proposal_bbox_mode"]
        boxes = BoxMode.convert(dataset_dict["proposal_boxes"], mode, BoxMode.XYXY_ABS)
        scores = dataset_dict["proposal_objectness_logits"]
        return top_proposals(boxes, scores, self.num_proposals, image_size, dataset_dict["file_name"])

    def _side(self, sides: list[int]) -> int:
        return int(np.random.choice(sides)) if self.is_train else sides[0]

    def _view(
        self, file: ImageFile, boxes_and_scores: tuple | None, side: int, flip: bool, with_image: bool = True
    ) -> dict[str, torch.Tensor | Instances | bool]:
        view = {"flip": flip}
        if with_image:
            view["image"] = self._pixels(file, side, flip)
        if boxes_and_scores is not None:
            boxes, scores = boxes_and_scores
            steps = [T.ResizeTransform(*file.shape, side, side)]
            if flip:
                steps.append(T.HFlipTransform(side))
            instances = Instances((side, side))
            boxes = T.TransformList(steps).apply_box(boxes)
            instances.proposal_boxes = Boxes(torch.as_tensor(boxes, dtype=torch.float32))
            instances.proposal_boxes.clip((side, side))
            instances.scores = torch.as_tensor(scores, dtype=torch.float32)
            view["proposals"] = instances
        return view

    def _pixels(self, file: ImageFile, side: int, flip: bool) -> torch.Tensor:
        """(3, side, side) uint8, of the size's own decoding: what a view shows does not depend on the other view."""
        if self.fast:
            pixels = resize_to_square(file.pixels(at_least=side), side)
        else:
            resized = T.ResizeTransform(*file.shape, side, side).apply_image(file.pixels())
            pixels = torch.from_numpy(resized.copy()).permute(2, 0, 1)
        turned = [axis for axis, wanted in ((0, self.image_format == "BGR"), (2, flip)) if wanted]
        return pixels.flip(turned).contiguous()


def top_proposals(
    boxes: np.ndarray, scores: np.ndarray, num_proposals: int, image_size: tuple[int, int], name: str
) -> tuple[np.ndarray, np.ndarray]:
    """The best ``num_proposals`` of an image, recycled from the best where there are fewer.

    Where there is none it is the whole image with score 1; a warning says so once and names the image.

    Args:
        boxes: (R, 4) XYXY_ABS, the best first. scores: (R,). image_size: (height, width). name: of the image.
    """
    if len(boxes) == 0:
        text = "%s has no proposals and gets the whole image with score 1 (said once; others may follow)"
        log_first_n(logging.WARNING, text % name)
        boxes = np.array([[0, 0, image_size[1], image_size[0]]], dtype=np.float32)
        scores = np.ones(1, dtype=np.float32)
    chosen = np.arange(num_proposals) % len(boxes)
    return boxes[chosen], scores[chosen]
