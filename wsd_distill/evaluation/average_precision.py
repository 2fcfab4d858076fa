"""COCO's average precision of one class, its boxes matched to objects by pycocotools."""

from __future__ import annotations

import contextlib
import io

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from .boxes import MAX_PER_CLASS, Detections, GroundTruth

IOUS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
AT_ONCE = 1000  # images: pycocotools wants a Python dict for each box
RIGHT, WRONG, NEITHER = 1, 0, -1


def coco_average_precisions(found: Detections, objects: GroundTruth) -> np.ndarray:
    """(10,) AP at IoU 0.50, 0.55 .. 0.95, all areas, from unrounded floats.

    What COCOeval says of ``found`` and ``objects``, of one class, one of which at least counts. Most images have no
    object of a class: their boxes are wrong without being matched. The curve takes NumPy a fraction of the memory.
    """
    outcomes = _match(found, objects)
    order = np.argsort(-found.scores, kind="stable")
    num_objects = objects.counted.sum()
    return np.array([_area(row[order], num_objects) for row in outcomes])


def _match(found: Detections, objects: GroundTruth) -> np.ndarray:
    """(10, M) int8: RIGHT, WRONG or NEITHER at each IoU."""
    outcomes = np.full((len(IOUS), len(found.scores)), WRONG, np.int8)
    seen = np.unique(objects.images)
    for first in range(0, len(seen), AT_ONCE):
        images = seen[first : first + AT_ONCE]
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints
            evaluation = _COCOeval(_as_coco(objects, images), _as_coco(found, images), "bbox")
            evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, float("inf")]], ["all"]
            evaluation.params.maxDets, evaluation.params.iouThrs = [MAX_PER_CLASS], IOUS
            evaluation.evaluate()
        for image in evaluation.evalImgs:
            rows = np.array(image["dtIds"], dtype=int) - 1
            outcomes[:, rows] = np.where(image["dtIgnore"], NEITHER, np.where(image["dtMatches"] > 0, RIGHT, WRONG))
    return outcomes


def _area(outcomes: np.ndarray, num_objects: int) -> float:
    """Mean over COCO's 101 recalls of the best precision at that recall or a higher one; the best box first."""
    right = outcomes[outcomes != NEITHER] == RIGHT
    hits = right.cumsum()
    precision = np.maximum.accumulate((hits / np.arange(1, len(hits) + 1))[::-1])[::-1]
    reached = np.searchsorted(hits / num_objects, RECALLS)
    return float(np.append(precision, 0)[reached].mean())


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


def _as_coco(table: Detections | GroundTruth, images: np.ndarray) -> COCO:
    """The boxes of these images; ids are positions in ``table``, from 1: pycocotools takes 0 for "not matched"."""
    rows = np.flatnonzero(np.isin(table.images, images))
    boxes = table.boxes[rows].astype(np.float64)
    sizes = boxes[:, 2:] - boxes[:, :2]
    columns = {
        "id": rows + 1,
        "image_id": table.images[rows],
        "bbox": np.concatenate([boxes[:, :2], sizes], axis=1),
        "area": sizes.prod(axis=1),
    }
    if isinstance(table, Detections):
        columns["score"] = table.scores[rows]
    else:
        columns.update(iscrowd=~table.counted[rows], difficult=table.difficult[rows])
    values = zip(*(column.tolist() for column in columns.values()))
    coco = COCO()
    coco.dataset = {
        "images": [{"id": i} for i in images.tolist()],
        "categories": [{"id": 0}],
        "annotations": [dict(zip(columns, row), category_id=0) for row in values],
    }
    coco.createIndex()
    return coco
