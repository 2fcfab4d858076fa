"""How well a model that has seen no box finds the objects: CorLoc, and COCO's AP through pycocotools."""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import Any

import numpy as np
import torch
from detectron2.structures import Boxes
from detectron2.structures.boxes import matched_pairwise_iou
from detectron2.utils.logger import create_small_table

from .box_ap import coco_average_precisions
from .detections import Detections, GroundTruth, ImageDetections, read_ground_truth, save_detections
from .per_image import PerImageEvaluator, per_class_table

logger = logging.getLogger(__name__)


class LocalizationEvaluator(PerImageEvaluator):
    """Localization metrics, from ``"instances"`` in the output of each image.

    They are Detectron2's, on the original image: ``pred_boxes`` (XYXY_ABS), ``scores``, ``pred_classes``.
    ``evaluate`` returns ``{"localization": ...}``, in percent:

    - ``CorLoc``, ``CorLoc-<class>`` (nan where no image has the class): see :func:`corloc`;
    - ``AP``, ``AP50``: COCO's, mean over the classes that occur, all areas, the 100 best boxes of a class in
      an image.

    Of a class in an image the 100 best boxes are kept. With ``output_dir``, ``detections.npz`` there holds
    ``image_ids`` (N,), ``class_names`` (K,) and of the M boxes that are kept, by image, by class in it, the best first:
    ``images`` (M,), positions in the dataset, ``boxes`` (M, 4) XYXY_ABS, ``classes`` (M,) and ``scores`` (M,).

    ``evaluate`` raises ValueError for an image without a prediction. Finding no box in it is a prediction.
    """

    def __init__(self, dataset_name: str, *, output_dir: str | None = None, distributed: bool = True):
        """
        Args:
            dataset_name: a registered dataset whose dicts have ``annotations``; boxes with ``iscrowd`` or
                VOC's ``difficult`` are left out of CorLoc, and neither hit nor miss for AP, as COCO and VOC have it.
            output_dir: where to write the detections; None writes nothing.
            distributed: gather the predictions of all ranks.

        Raises:
            ValueError: the dataset has no boxes, or one of an unknown class.
        """
        super().__init__(dataset_name, output_dir, distributed)
        self._truth = read_ground_truth(self._dataset, dataset_name, len(self.class_names))

    def read_output(self, image_id: Any, output: dict) -> ImageDetections:
        if "instances" not in output:
            raise ValueError(f"The output for image {image_id!r} has no 'instances', only {sorted(output)}.")
        instances, record = output["instances"], self._dataset[self._index[image_id]]
        size = (record.get("height"), record.get("width"))
        if None not in size and tuple(instances.image_size) != size:
            raise ValueError(
                f"The instances of image {image_id!r} are for (height, width) {instances.image_size}, but "
                f"the image is {size}; rescale them to it (detectron2's detector_postprocess)."
            )
        boxes, scores = (x.detach().float().cpu().numpy() for x in (instances.pred_boxes.tensor, instances.scores))
        classes = instances.pred_classes.cpu().numpy()
        known = ((classes >= 0) & (classes < len(self.class_names))).all()
        if not (np.isfinite(boxes).all() and np.isfinite(scores).all() and known):
            raise ValueError(f"The instances of image {image_id!r} hold NaN, infinity or an unknown class.")
        return ImageDetections.best(boxes, scores, classes, len(self.class_names))

    def summarize(self, predictions: list[ImageDetections]) -> OrderedDict[str, dict[str, float]]:
        if self._output_dir is not None:
            save_detections(self._output_dir / "detections.npz", self.image_ids, self.class_names, predictions)
        per_class, precisions = np.full(len(self.class_names), np.nan), []
        for k in np.unique(self._truth.classes[self._truth.counted]):
            found, objects = Detections.of_class(k, predictions), self._truth.where(self._truth.classes == k)
            per_class[k] = 100 * corloc(found, objects)
            precisions.append(100 * coco_average_precisions(found, objects))
        precisions = np.stack(precisions)
        results = {
            "CorLoc": float(np.nanmean(per_class)),
            "AP": float(precisions.mean()),
            "AP50": float(precisions[:, 0].mean()),
        }
        logger.info(f"{self.dataset_name}, boxes:\n{create_small_table(results)}")
        logger.info(f"CorLoc of each class:\n{per_class_table(self.class_names, per_class, 'CorLoc')}")
        results.update({f"CorLoc-{name}": float(value) for name, value in zip(self.class_names, per_class)})
        return OrderedDict(localization=results)


def corloc(found: Detections, objects: GroundTruth) -> float:
    """Correct localization (Deselaers et al., 2012) of one class.

    Over the images that hold the class, the fraction whose top-scoring box of that class has an IoU of at
    least 0.5 with an object of that class. An image without such a box is a miss; of equally good boxes, the
    first counts.
    """
    objects = objects.where(objects.counted)
    images, first = np.unique(found.images, return_index=True)
    seen = objects.where(np.isin(objects.images, images))
    top = found.boxes[first[np.searchsorted(images, seen.images)]]  # one per object
    pair = (Boxes(torch.as_tensor(side, dtype=torch.float32)) for side in (top, seen.boxes))
    hits = seen.images[matched_pairwise_iou(*pair).numpy() >= 0.5]
    return len(np.unique(hits)) / len(np.unique(objects.images))
