"""COCO average precision of one class, with the matching of pycocotools."""

from __future__ import annotations

import contextlib
import io

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from .detections import MAX_PER_CLASS, Detections, GroundTruth

IOUS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
CHUNK_SIZE = 1000  # images at once: pycocotools needs a Python dict for each box
TP, FP, IGNORED = 1, 0, -1


def coco_average_precisions(found: Detections, objects: GroundTruth) -> np.ndarray:
    """Compute (10,) AP at IoU 0.50, 0.55 .. 0.95, all areas, without rounding scores.

    The result equals COCOeval, with less memory: boxes in images without objects are false positives and are not
    passed to pycocotools, and NumPy computes the precision-recall curve.

    Args:
        found: detections of the class.
        objects: annotated boxes of the class, at least one of them valid.
    """
    outcomes = _match(found, objects)
    order = np.argsort(-found.scores, kind="stable")
    num_objects = objects.valid.sum()
    return np.array([_interpolated_ap(row[order], num_objects) for row in outcomes])


def _match(found: Detections, objects: GroundTruth) -> np.ndarray:
    """Return (10, M) int8: TP, FP or IGNORED at each IoU."""
    outcomes = np.full((len(IOUS), len(found.scores)), FP, np.int8)
    with_objects = np.unique(objects.images)
    for first in range(0, len(with_objects), CHUNK_SIZE):
        images = with_objects[first : first + CHUNK_SIZE]
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
    """Average the best precision at each of COCO's 101 recalls or above; outcomes are sorted by falling score."""
    hits = (outcomes[outcomes != IGNORED] == TP).cumsum()
    precision = np.maximum.accumulate((hits / np.arange(1, len(hits) + 1))[::-1])[::-1]
    reached = np.searchsorted(hits / num_objects, RECALLS)
    return float(np.append(precision, 0)[reached].mean())


class _COCOeval(COCOeval):
    """COCOeval in which difficult objects are crowds, except that their overlap is the usual IoU."""

    def computeIoU(self, imgId, catId):
        objects = [o for o in self._gts[imgId, catId] if o["difficult"]]
        for o in objects:
            o["iscrowd"] = 0
        overlaps = super().computeIoU(imgId, catId)
        for o in objects:
            o["iscrowd"] = 1
        return overlaps


def _as_coco(table: Detections | GroundTruth, images: np.ndarray) -> COCO:
    """Convert the boxes of some images; ids are rows of ``table`` plus 1: to pycocotools, 0 means "not matched"."""
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
        columns.update(iscrowd=~table.valid[rows], difficult=table.difficult[rows])
    values = zip(*(column.tolist() for column in columns.values()))
    coco = COCO()
    coco.dataset = {
        "images": [{"id": i} for i in images.tolist()],
        "categories": [{"id": 0}],
        "annotations": [dict(zip(columns, row), category_id=0) for row in values],
    }
    coco.createIndex()
    return coco
