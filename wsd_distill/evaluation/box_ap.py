"""COCO's average precision of one class, its boxes matched to objects by pycocotools."""

from __future__ import annotations

import contextlib
import io

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from .detections import MAX_PER_CLASS, Detections, GroundTruth

IOUS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
CHUNK_SIZE = 1000  # images: pycocotools wants a Python dict for each box
TP, FP, IGNORED = 1, 0, -1


def coco_average_precisions(found: Detections, objects: GroundTruth) -> np.ndarray:
    """(10,) AP at IoU 0.50, 0.55 .. 0.95, all areas, from unrounded floats.

    What COCOeval says of ``found`` and ``objects``, of one class, one of which at least counts. Most images have no
    object of a class: their boxes are wrong without being matched. The curve takes NumPy a fraction of the memory.
    """
    outcomes = _match(found, objects)
    order = np.argsort(-found.scores, kind="stable")
    num_objects = objects.counted.sum()
    return np.array([_interpolated_ap(row[order], num_objects) for row in outcomes])


def _match(found: Detections, objects: GroundTruth) -> np.ndarray:
    """(10, M) int8: TP, FP or IGNORED at each IoU."""
    outcomes = np.full((len(IOUS), len(found.scores)), FP, np.int8)
    seen = np.unique(objects.images)
    for first in range(0, len(seen), CHUNK_SIZE):
        images = seen[first : first + CHUNK_SIZE]
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints
            evaluation = _COCOeval(_as_coco(objects, images), _as_coco(found, images), "bbox")
            evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, float("inf")]], ["all"]
            evaluation.params.maxDets, evaluation.params.iouThrs = [MAX_PER_CLASS], IOUS
            evaluation.evaluate()
        for image in evaluation.evalImgs:
            rows = np.array(image["dtIds"], dtype=int) - 1
            outcomes[:, rows] = np.where(image["dtIgnore"], IGNORED, np.where(image["dtMatches"] > 0, TP, FP))
    return outcomes


def _interpolated_ap(outcomes: np.ndarray, num_objects: int) -> float:
    """Mean over COCO's 101 recalls of the best precision at that recall or a higher one; the best box first."""
    right = outcomes[outcomes != IGNORED] == TP
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
