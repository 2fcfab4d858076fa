"""Evaluator of localization: CorLoc and COCO AP."""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import Any

import numpy as np
import torch
from detectron2.structures import Boxes
from detectron2.structures.boxes import matched_pairwise_iou
from detectron2.utils.logger import create_small_table

from .box_ap import IOUS, coco_average_precisions
from .detections import Detections, GroundTruth, ImageDetections, read_ground_truth, save_detections
from .per_image import PerImageEvaluator, per_class_table

logger = logging.getLogger(__name__)


class LocalizationEvaluator(PerImageEvaluator):
    """Localization metrics from ``"instances"`` of each output, in pixels of the original image.

    Instances have ``pred_boxes`` (XYXY_ABS), ``scores`` and ``pred_classes``. ``evaluate`` returns
    ``{"localization": ...}``, in percent:

    - ``CorLoc``, ``CorLoc-<class>`` (nan for a class without objects): see :func:`corloc`;
    - ``AP``, ``AP50``: COCO's, mean over classes with objects, all areas.

    All are nan if the dataset has no box to detect. Only the 100 best boxes per class and image are used.

    Args:
        dataset_name: a registered dataset whose dicts have ``annotations``. Boxes with ``iscrowd`` or VOC's
            ``difficult`` are not used for CorLoc and are ignored for AP, as in COCO and VOC.
        output_dir: folder for ``detections.npz``, with ``image_ids`` (N,), ``class_names`` (K,) and the M boxes, sorted
            by image, class and falling score: ``images`` (M,) indices in the dataset, ``boxes`` (M, 4) XYXY_ABS,
            ``classes`` (M,) and ``scores`` (M,); None writes nothing.
        distributed: gather the predictions of all ranks.

    Raises:
        ValueError: An image has no ``annotations``, or a box has an unknown class; in ``evaluate``, an image has no
            prediction (instances may be empty).
    """

    def __init__(self, dataset_name: str, *, output_dir: str | None = None, distributed: bool = True):
        super().__init__(dataset_name, output_dir, distributed)
        self._truth = read_ground_truth(self._dataset, dataset_name, len(self.class_names))

    def read_output(self, image_id: Any, output: dict) -> ImageDetections:
        if "instances" not in output:
            raise ValueError(f"The output for image {image_id!r} has no 'instances', only {sorted(output)}.")
        instances, record = output["instances"], self._dataset[self._index[image_id]]
        size = (record.get("height"), record.get("width"))
        if None not in size and tuple(instances.image_size) != size:
            raise ValueError(
                f"The instances of image {image_id!r} are for (height, width) {instances.image_size}, but the image is "
                f"{size}: rescale them with detectron2's detector_postprocess."
            )
        boxes, scores = (x.detach().float().cpu().numpy() for x in (instances.pred_boxes.tensor, instances.scores))
        classes = instances.pred_classes.cpu().numpy()
        valid = ((classes >= 0) & (classes < len(self.class_names))).all()
        if not (np.isfinite(boxes).all() and np.isfinite(scores).all() and valid):
            raise ValueError(f"The instances of image {image_id!r} have NaN, infinity or an unknown class.")
        return ImageDetections.best(boxes, scores, classes, len(self.class_names))

    def summarize(self, predictions: list[ImageDetections]) -> OrderedDict[str, dict[str, float]]:
        if self._output_dir is not None:
            save_detections(self._output_dir / "detections.npz", self.image_ids, self.class_names, predictions)
        per_class, aps = np.full(len(self.class_names), np.nan), []
        for k in np.unique(self._truth.classes[self._truth.valid]):
            found, objects = Detections.of_class(k, predictions), self._truth.select(self._truth.classes == k)
            per_class[k] = 100 * corloc(found, objects)
            aps.append(100 * coco_average_precisions(found, objects))
        precisions = np.stack(aps or [np.full(len(IOUS), np.nan)])  # (classes with objects, 10)
        results = {
            "CorLoc": float(np.nanmean(per_class)) if aps else float("nan"),
            "AP": float(precisions.mean()),
            "AP50": float(precisions[:, 0].mean()),
        }
        logger.info(f"{self.dataset_name}, boxes:\n{create_small_table(results)}")
        logger.info(f"CorLoc of each class:\n{per_class_table(self.class_names, per_class, 'CorLoc')}")
        results.update({f"CorLoc-{name}": float(value) for name, value in zip(self.class_names, per_class)})
        return OrderedDict(localization=results)


def mean_corloc(boxes: np.ndarray, truth: GroundTruth) -> float:
    """Compute CorLoc from the top-scoring box of each class, as a mean over classes with objects.

    Args:
        boxes: (N, K, 4) XYXY_ABS, of each image and class.
        truth: objects in the N images.

    Returns:
        Percent; nan if no image has an object.
    """
    images, scores = np.arange(len(boxes), dtype=np.int32), np.ones(len(boxes), dtype=np.float32)
    values = [
        corloc(Detections(images, boxes[:, k], scores), truth.select(truth.classes == k))
        for k in np.unique(truth.classes[truth.valid])
    ]
    return 100 * float(np.mean(values)) if values else float("nan")


def corloc(found: Detections, objects: GroundTruth) -> float:
    """Compute correct localization (Deselaers et al., 2012) of one class.

    CorLoc is the fraction of images with the class whose top-scoring box has an IoU of at least 0.5 with an object of
    the class. An image without detections is a miss. Of boxes with equal scores the first is used.
    """
    objects = objects.select(objects.valid)
    images, first = np.unique(found.images, return_index=True)
    detected = objects.select(np.isin(objects.images, images))
    top = found.boxes[first[np.searchsorted(images, detected.images)]]  # one per object
    pair = (Boxes(torch.as_tensor(boxes, dtype=torch.float32)) for boxes in (top, detected.boxes))
    hits = detected.images[matched_pairwise_iou(*pair).numpy() >= 0.5]
    return len(np.unique(hits)) / len(np.unique(objects.images))
