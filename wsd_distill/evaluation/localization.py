"""How well a model that has seen no box finds the objects: CorLoc, and COCO's AP through pycocotools."""

from __future__ import annotations

import contextlib
import io
import logging
from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np
import torch
from detectron2.structures import Boxes, BoxMode
from detectron2.structures.boxes import matched_pairwise_iou
from detectron2.utils.logger import create_small_table
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from .base import PerImageEvaluator, per_class_table, save_npz

logger = logging.getLogger(__name__)


class Detections(NamedTuple):
    """M found boxes of a data set, grouped by image, in the order the model gave them."""

    images: np.ndarray  # (M,) int64, positions in the data set
    boxes: np.ndarray  # (M, 4) float32, XYXY_ABS
    classes: np.ndarray  # (M,) int64
    scores: np.ndarray  # (M,) float32


class GroundTruth(NamedTuple):
    """G boxes of the objects of a data set."""

    images: np.ndarray  # (G,) int64, positions in the data set
    boxes: np.ndarray  # (G, 4) float64, XYXY_ABS
    classes: np.ndarray  # (G,) int64
    crowd: np.ndarray  # (G,) bool
    difficult: np.ndarray  # (G,) bool

    @property
    def counted(self) -> np.ndarray:
        """(G,) bool: objects that are to be found; boxes on the others are neither right nor wrong."""
        return ~(self.crowd | self.difficult)


class LocalizationEvaluator(PerImageEvaluator):
    """Localization metrics, from ``"instances"`` in the output of each image.

    They are Detectron2's, on the original image: ``pred_boxes`` (XYXY_ABS), ``scores``, ``pred_classes``.
    ``evaluate`` returns ``{"localization": ...}``, in percent:

    - ``CorLoc``, ``CorLoc-<class>`` (nan where no image has the class): see :func:`corloc`;
    - ``AP``, ``AP50``: COCO's, mean over the classes that occur, all areas, the 100 best boxes of a class in
      an image.

    With ``output_dir``, ``detections.npz`` there holds ``image_ids`` (N,), ``class_names`` (K,) and the
    columns of :class:`Detections`.

    ``evaluate`` raises ValueError for an image without a prediction. Finding no box in it is a prediction.
    """

    def __init__(self, dataset_name: str, *, output_dir: str | None = None, distributed: bool = True):
        """
        Args:
            dataset_name: a registered data set whose dicts have ``annotations``; boxes with ``iscrowd`` or
                VOC's ``difficult`` are left out of CorLoc, and neither hit nor miss for AP, as COCO and VOC have it.
            output_dir: where to write the detections; None writes nothing.
            distributed: gather the predictions of all ranks.

        Raises:
            ValueError: the data set has no boxes, or one of an unknown class.
        """
        super().__init__(dataset_name, output_dir, distributed)
        self._truth = _ground_truth(self._dataset, dataset_name, len(self.class_names))

    def read_output(self, image_id: Any, output: dict) -> np.ndarray:
        """(m, 6) float32: XYXY_ABS, class, score."""
        if "instances" not in output:
            raise ValueError(f"The output for image {image_id!r} has no 'instances', only {sorted(output)}.")
        instances, record = output["instances"], self._dataset[self._index[image_id]]
        size = (record.get("height"), record.get("width"))
        if None not in size and tuple(instances.image_size) != size:
            raise ValueError(
                f"The instances of image {image_id!r} are for (height, width) {instances.image_size}, but "
                f"the image is {size}; rescale them to it (detectron2's detector_postprocess)."
            )
        columns = [instances.pred_boxes.tensor, instances.pred_classes[:, None], instances.scores[:, None]]
        rows = torch.cat([column.detach().float().cpu() for column in columns], dim=1).numpy()
        if not (np.isfinite(rows).all() and (rows[:, 4] < len(self.class_names)).all()):
            raise ValueError(f"The instances of image {image_id!r} hold NaN, infinity or an unknown class.")
        return rows

    def summarize(self, predictions: list[np.ndarray]) -> OrderedDict[str, dict[str, float]]:
        images = np.repeat(np.arange(len(predictions)), [len(rows) for rows in predictions])
        rows = np.concatenate(predictions)
        found = Detections(images, rows[:, :4], rows[:, 4].astype(np.int64), rows[:, 5])
        if self._output_dir is not None:
            ids, names = np.array(self.image_ids), np.array(self.class_names)
            save_npz(self._output_dir / "detections.npz", image_ids=ids, class_names=names, **found._asdict())
        per_class = 100 * corloc(found, self._truth, len(self.class_names))
        precisions = 100 * coco_average_precisions(found, self._truth, len(predictions))
        results = {
            "CorLoc": float(np.nanmean(per_class)),
            "AP": float(precisions.mean()),
            "AP50": float(precisions[:, 0].mean()),
        }
        logger.info(f"{self.dataset_name}, boxes:\n{create_small_table(results)}")
        logger.info(f"CorLoc of each class:\n{per_class_table(self.class_names, per_class, 'CorLoc')}")
        results.update({f"CorLoc-{name}": float(value) for name, value in zip(self.class_names, per_class)})
        return OrderedDict(localization=results)


def corloc(found: Detections, truth: GroundTruth, num_classes: int) -> np.ndarray:
    """Correct localization (Deselaers et al., 2012), per class.

    Over the images that hold the class, the fraction whose top-scoring box of that class has an IoU of at
    least 0.5 with an object of that class. An image without such a box is a miss; of equally good boxes, the
    first counts.

    Returns:
        (K,) fractions, nan for a class that no image holds.
    """
    result = np.full(num_classes, np.nan)
    for k in np.unique(truth.classes[truth.counted]):
        objects = _rows(truth, (truth.classes == k) & truth.counted)
        boxes = _rows(found, found.classes == k)
        boxes = _rows(boxes, np.lexsort((-boxes.scores, boxes.images)))
        images, first = np.unique(boxes.images, return_index=True)
        objects_seen = _rows(objects, np.isin(objects.images, images))
        top = boxes.boxes[first[np.searchsorted(images, objects_seen.images)]]  # one per object
        pair = (Boxes(torch.as_tensor(side, dtype=torch.float32)) for side in (top, objects_seen.boxes))
        hits = objects_seen.images[matched_pairwise_iou(*pair).numpy() >= 0.5]
        result[k] = len(np.unique(hits)) / len(np.unique(objects.images))
    return result


def coco_average_precisions(found: Detections, truth: GroundTruth, num_images: int) -> np.ndarray:
    """(classes that occur, 10) COCO's AP at IoU 0.50, 0.55 .. 0.95, by pycocotools, from unrounded floats.

    One class at a time, as pycocotools wants a Python dict per box and a WSDDN yields very many boxes.
    """
    precisions = []
    for k in np.unique(truth.classes[truth.counted]):
        objects, boxes = _rows(truth, truth.classes == k), _rows(found, found.classes == k)
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints
            evaluation = _COCOeval(_as_coco(objects, num_images), _as_coco(boxes, num_images), "bbox")
            evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, float("inf")]], ["all"]
            evaluation.params.maxDets = [100]
            evaluation.evaluate()
            evaluation.accumulate()
        precisions.append(evaluation.eval["precision"][:, :, 0, 0, 0].mean(axis=1))
    return np.stack(precisions)


class _COCOeval(COCOeval):
    """Difficult objects are crowds to it, save that their overlap is the usual IoU, not the covered share of a box."""

    def computeIoU(self, imgId, catId):
        objects = [o for o in self._gts[imgId, catId] if o["difficult"]]
        for o in objects:
            o["iscrowd"] = 0
        overlaps = super().computeIoU(imgId, catId)
        for o in objects:
            o["iscrowd"] = 1
        return overlaps


def _as_coco(table: Detections | GroundTruth, num_images: int) -> COCO:
    sizes = table.boxes[:, 2:].astype(np.float64) - table.boxes[:, :2]
    columns = {
        "id": np.arange(1, len(sizes) + 1),  # from 1: pycocotools takes 0 for "not matched"
        "image_id": table.images,
        "bbox": np.concatenate([table.boxes[:, :2], sizes], axis=1),
        "area": sizes.prod(axis=1),
    }
    if isinstance(table, Detections):
        columns["score"] = table.scores
    else:
        columns.update(iscrowd=~table.counted, difficult=table.difficult)
    rows = zip(*(column.tolist() for column in columns.values()))
    coco = COCO()
    coco.dataset = {
        "images": [{"id": i} for i in range(num_images)],
        "categories": [{"id": 0}],
        "annotations": [dict(zip(columns, row), category_id=0) for row in rows],
    }
    coco.createIndex()
    return coco


def _ground_truth(dataset: list[dict], dataset_name: str, num_classes: int) -> GroundTruth:
    rows, flags = [], ("iscrowd", "difficult")
    for i, record in enumerate(dataset):
        if "annotations" not in record:
            raise ValueError(
                f"Image {record['image_id']!r} of {dataset_name!r} has no 'annotations': without boxes, "
                "evaluate with MultiLabelEvaluator only."
            )
        for annotation in record["annotations"]:
            if not 0 <= annotation["category_id"] < num_classes:
                raise ValueError(
                    f"Image {record['image_id']!r} of {dataset_name!r} has a box of class "
                    f"{annotation['category_id']}, but there are {num_classes} classes, counted from 0."
                )
            box = BoxMode.convert(list(annotation["bbox"]), annotation["bbox_mode"], BoxMode.XYXY_ABS)
            rows.append((i, *box, annotation["category_id"], *(annotation.get(flag, 0) for flag in flags)))
    table = np.array(rows, dtype=np.float64).reshape(-1, 8)
    crowd, difficult = table[:, 6] > 0, table[:, 7] > 0
    truth = GroundTruth(table[:, 0].astype(int), table[:, 1:5], table[:, 5].astype(int), crowd, difficult)
    if not truth.counted.any():
        raise ValueError(f"Data set {dataset_name!r} has not one box, hence neither CorLoc nor AP.")
    return truth


def _rows(table: Detections | GroundTruth, which: np.ndarray) -> Detections | GroundTruth:
    return type(table)(*(column[which] for column in table))
