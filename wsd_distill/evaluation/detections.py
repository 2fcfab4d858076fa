"""Detections and ground truth of a dataset as compact arrays; COCO has up to 10^8 detections."""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from detectron2.structures import BoxMode

from wsd_distill.data.boxes import IMPOSSIBLE, check_box
from wsd_distill.data.types import DatasetDict
from wsd_distill.io import atomic_write

logger = logging.getLogger(__name__)

MAX_PER_CLASS = 100  # boxes per class and image, as in COCO; CorLoc needs one


class ImageDetections(NamedTuple):
    """m detections in one image, sorted by class and falling score."""

    boxes: np.ndarray  # (m, 4) float32, XYXY_ABS
    scores: np.ndarray  # (m,) float32
    starts: np.ndarray  # (K + 1,) int32: class k is starts[k]:starts[k + 1]

    @classmethod
    def best(cls, boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray, num_classes: int) -> ImageDetections:
        """Keep the ``MAX_PER_CLASS`` best detections of each class; ties go to the first."""
        order = np.lexsort((-scores, classes))
        starts = np.searchsorted(classes[order], np.arange(num_classes + 1))
        rank = np.arange(len(order)) - np.repeat(starts[:-1], np.diff(starts))
        kept = order[rank < MAX_PER_CLASS]
        counts = np.minimum(np.diff(starts), MAX_PER_CLASS)
        return cls(boxes[kept], scores[kept], np.concatenate([[0], counts.cumsum()]).astype(np.int32))

    @property
    def classes(self) -> np.ndarray:
        """(m,) int16."""
        return np.repeat(np.arange(len(self.starts) - 1, dtype=np.int16), np.diff(self.starts))


class Detections(NamedTuple):
    """M detections of one class, sorted by image and falling score, at most ``MAX_PER_CLASS`` per image."""

    images: np.ndarray  # (M,) int32, indices in the dataset
    boxes: np.ndarray  # (M, 4) float32, XYXY_ABS
    scores: np.ndarray  # (M,) float32

    @classmethod
    def of_class(cls, k: int, found: Sequence[ImageDetections]) -> Detections:
        """Collect the detections of class k in all images."""
        parts = [slice(*image.starts[k : k + 2]) for image in found]
        images = np.repeat(np.arange(len(found), dtype=np.int32), [part.stop - part.start for part in parts])
        boxes, scores = (
            np.concatenate([image[column][part] for image, part in zip(found, parts)]) for column in (0, 1)
        )
        return cls(images, boxes, scores)


class GroundTruth(NamedTuple):
    """G annotated boxes of a dataset, sorted by image."""

    images: np.ndarray  # (G,) int64, indices in the dataset
    boxes: np.ndarray  # (G, 4) float64, XYXY_ABS
    classes: np.ndarray  # (G,) int64
    crowd: np.ndarray  # (G,) bool
    difficult: np.ndarray  # (G,) bool

    @property
    def valid(self) -> np.ndarray:
        """(G,) bool: objects to detect; detections on the others are ignored."""
        return ~(self.crowd | self.difficult)

    def select(self, rows: np.ndarray) -> GroundTruth:
        """Return the boxes of the given rows, (G,) bool or indices."""
        return GroundTruth(*(column[rows] for column in self))


def read_ground_truth(dataset: Sequence[DatasetDict], dataset_name: str, num_classes: int) -> GroundTruth:
    """Read the ``annotations`` of dataset dicts.

    Impossible boxes are left out; their number is logged.

    Raises:
        ValueError: An image has no ``annotations``, or a box has an unknown class.
    """
    rows: list[tuple] = []
    faults: list[str] = []
    flags = ("iscrowd", "difficult")
    for i, record in enumerate(dataset):
        image = f"Image {record['image_id']!r} of {dataset_name!r}"
        if "annotations" not in record:
            raise ValueError(f"{image} has no 'annotations': set dataset.boxes=False to evaluate labels only.")
        for annotation in record["annotations"]:
            category, mode = annotation["category_id"], annotation["bbox_mode"]
            if not 0 <= category < num_classes:
                known = f"there are {num_classes} classes (0 to {num_classes - 1})"
                raise ValueError(f"{image} has a box of class {category}, but {known}.")
            fault = check_box(annotation["bbox"], mode, record.get("height"), record.get("width"))
            if fault and fault[0] == IMPOSSIBLE:
                faults.append(f"{image}: {fault[1]}")
                continue
            box = BoxMode.convert(list(annotation["bbox"]), mode, BoxMode.XYXY_ABS)
            rows.append((i, *box, category, *(annotation.get(flag) or 0 for flag in flags)))
    if faults:
        logger.warning(f"{dataset_name}: {len(faults)} impossible boxes are left out; the first: {faults[0]}")
    table = np.array(rows, dtype=np.float64).reshape(-1, 8)
    crowd, difficult = table[:, 6] > 0, table[:, 7] > 0
    truth = GroundTruth(table[:, 0].astype(int), table[:, 1:5], table[:, 5].astype(int), crowd, difficult)
    if not truth.valid.any():
        logger.warning(f"{dataset_name} has no box that is not crowd or difficult: CorLoc and AP are undefined.")
    return truth


def save_detections(
    path: Path, image_ids: Sequence, class_names: Sequence[str], found: Sequence[ImageDetections]
) -> None:
    """Write the .npz file of :class:`.LocalizationEvaluator` without holding a whole column in memory."""
    total = sum(len(image.scores) for image in found)
    columns = {
        "images": ("<i4", (total,), lambda i: np.full(len(found[i].scores), i)),
        "boxes": ("<f4", (total, 4), lambda i: found[i].boxes),
        "classes": ("<i2", (total,), lambda i: found[i].classes),
        "scores": ("<f4", (total,), lambda i: found[i].scores),
    }
    with atomic_write(path) as tmp_path, zipfile.ZipFile(tmp_path, "w") as file:
        for name, values in (("image_ids", np.array(image_ids)), ("class_names", np.array(class_names))):
            with file.open(f"{name}.npy", "w") as column:
                np.lib.format.write_array(column, values)
        for name, (dtype, shape, part) in columns.items():
            header = {"descr": dtype, "fortran_order": False, "shape": shape}
            with file.open(f"{name}.npy", "w", force_zip64=True) as column:
                np.lib.format.write_array_header_1_0(column, header)
                for i in range(len(found)):
                    column.write(part(i).astype(dtype).tobytes())
