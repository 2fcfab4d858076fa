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


class MultiLabelMapper:
    """Reads an image, squashes it to a square and gives it with its labels, for two views where two are asked for.

    The output has ``image`` (3, H, W) uint8, ``labels`` (K,) float32, ``proposals`` where the dataset dict has
    Detectron2's ``proposal_boxes`` and ``proposal_objectness_logits`` (the best first; the loader puts them there), and
    the dataset dict's file_name, image_id, height and width. With ``teacher_sides`` it also has ``teacher``, a dict of
    the same image at the teacher's side, with its own ``proposals``. One flip holds for both views. With
    ``average_views`` it also has ``views``, over which a model averages: dicts with an ``image`` and the same
    ``proposals``, each made from the file's pixels (resized again, a resized image would blur). No annotation gets out.

    ValueErrors, which name the file: a label that is no class index; ``teacher_sides`` and no proposals.

    Args:
        is_train: flips happen only in training.
        num_classes: K.
        sides: sides in pixels of the square; in training one is drawn for each image, at test time the first is taken.
        image_format: channel order, as Detectron2's ``read_image`` knows it.
        flip_prob: probability of a horizontal flip.
        num_proposals: how many an image gets: the best of them, recycled from the best where there are fewer.
        teacher_sides: as ``sides``, for the teacher's view.
        average_views: at test time the image comes in every view of training: at each of ``sides``, as it is and, where
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
        teacher_sides: list[int] | None = None,
        average_views: bool = False,
    ):
        self.is_train = is_train
        self.num_classes = num_classes
        self.sides = list(sides)
        self.image_format = image_format
        self.flip_prob = flip_prob
        self.num_proposals = num_proposals
        self.teacher_sides = list(teacher_sides) if teacher_sides else None
        self.average_views = average_views

    def __call__(self, dataset_dict: dict) -> dict:
        kept = ("file_name", "image_id", "height", "width")
        output = {key: copy.copy(dataset_dict[key]) for key in kept if key in dataset_dict}
        image = utils.read_image(dataset_dict["file_name"], format=self.image_format)
        utils.check_image_size(output, image)
        flip = self.is_train and np.random.rand() < self.flip_prob
        boxes_and_scores = self._chosen_proposals(dataset_dict, image.shape[:2])
        output.update(_view(image, boxes_and_scores, self._side(self.sides), flip))
        if self.teacher_sides:
            output["teacher"] = _view(image, boxes_and_scores, self._side(self.teacher_sides), flip)
        if self.average_views and not self.is_train:
            flips = (False, True) if self.flip_prob else (False,)
            output["views"] = [_view(image, boxes_and_scores, s, f) for s in self.sides for f in flips]
        output["labels"] = self._labels(dataset_dict)
        return output

    def _labels(self, dataset_dict: dict) -> torch.Tensor:
        wrong = [k for k in dataset_dict["labels"] if not 0 <= k < self.num_classes]
        if wrong:
            file, last = dataset_dict["file_name"], self.num_classes - 1
            raise ValueError(
                f"{file}: labels {wrong} are no class indices, which go from 0 to {last} (num_classes - 1)"
            )
        labels = torch.zeros(self.num_classes)
        labels[dataset_dict["labels"]] = 1
        return labels

    def _chosen_proposals(self, dataset_dict: dict, image_size: tuple[int, int]) -> tuple | None:
        """(R, 4) boxes and (R,) scores, R being num_proposals; the whole image with score 1 where there is none."""
        if "proposal_boxes" not in dataset_dict:
            if self.teacher_sides:
                file = dataset_dict["file_name"]
                raise ValueError(f"{file}: there are no proposals for the teacher, set dataloader.train.proposals")
            return None
        mode = dataset_dict["proposal_bbox_mode"]
        boxes = BoxMode.convert(dataset_dict["proposal_boxes"], mode, BoxMode.XYXY_ABS)
        scores = dataset_dict["proposal_objectness_logits"]
        return choose_proposals(boxes, scores, self.num_proposals, image_size, dataset_dict["file_name"])

    def _side(self, sides: list[int]) -> int:
        return int(np.random.choice(sides)) if self.is_train else sides[0]


def choose_proposals(
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


def _view(
    image: np.ndarray, boxes_and_scores: tuple | None, side: int, flip: bool
) -> dict[str, torch.Tensor | Instances]:
    steps = [T.ResizeTransform(*image.shape[:2], side, side)]
    if flip:
        steps.append(T.HFlipTransform(side))
    transforms = T.TransformList(steps)
    pixels = transforms.apply_image(image)
    view = {"image": torch.as_tensor(np.ascontiguousarray(pixels.transpose(2, 0, 1)))}
    if boxes_and_scores is not None:
        boxes, scores = boxes_and_scores
        instances = Instances((side, side))
        instances.proposal_boxes = Boxes(torch.as_tensor(transforms.apply_box(boxes), dtype=torch.float32))
        instances.proposal_boxes.clip((side, side))
        instances.scores = torch.as_tensor(scores, dtype=torch.float32)
        view["proposals"] = instances
    return view
