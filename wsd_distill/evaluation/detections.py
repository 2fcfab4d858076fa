"""Boxes that are found in a dataset and those of its objects, as compact arrays: on COCO the former are 10^8."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from detectron2.structures import BoxMode

from wsd_distill.io import atomic_write

MAX_PER_CLASS = 100  # COCO's, of a class in an image; CorLoc needs one


class ImageDetections(NamedTuple):
    """m boxes found in one image, those of class 0 first, and the best of a class first."""

    boxes: np.ndarray  # (m, 4) float32, XYXY_ABS
    scores: np.ndarray  # (m,) float32
    starts: np.ndarray  # (K + 1,) int32: class k has starts[k] to starts[k + 1]

    @classmethod
    def best(cls, boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray, num_classes: int) -> ImageDetections:
        """The ``MAX_PER_CLASS`` best of each class; of equally good ones the first."""
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
    """M boxes found of one class, grouped by image, the best of an image first, at most ``MAX_PER_CLASS``."""

    images: np.ndarray  # (M,) int32, positions in the dataset
    boxes: np.ndarray  # (M, 4) float32, XYXY_ABS
    scores: np.ndarray  # (M,) float32

    @classmethod
    def of_class(cls, k: int, found: Sequence[ImageDetections]) -> Detections:
        parts = [slice(*image.starts[k : k + 2]) for image in found]
        images = np.repeat(np.arange(len(found), dtype=np.int32), [part.stop - part.start for part in parts])
        boxes, scores = (
            np.concatenate([image[column][part] for image, part in zip(found, parts)]) for column in (0, 1)
        )
        return cls(images, boxes, scores)


class GroundTruth(NamedTuple):
    """G boxes of the objects of a dataset, grouped by image."""

    images: np.ndarray  # (G,) int64, positions in the dataset
    boxes: np.ndarray  # (G, 4) float64, XYXY_ABS
    classes: np.ndarray  # (G,) int64
    crowd: np.ndarray  # (G,) bool
    difficult: np.ndarray  # (G,) bool

    @property
    def counted(self) -> np.ndarray:
        """(G,) bool: objects that are to be found; boxes on the others are neither right nor wrong."""
        return ~(self.crowd | self.difficult)

    def where(self, which: np.ndarray) -> GroundTruth:
        return GroundTruth(*(column[which] for column in self))


def read_ground_truth(dataset: list[dict], dataset_name: str, num_classes: int) -> GroundTruth:
    """From the ``annotations`` of dataset dicts.

    Raises:
        ValueError: an image without the key, a box of an unknown class, or not one box that counts.
    """
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
        raise ValueError(f"Dataset {dataset_name!r} has not one box, hence neither CorLoc nor AP.")
    return truth


def save_detections(
    path: Path, image_ids: Sequence, class_names: Sequence[str], found: Sequence[ImageDetections]
) -> None:
    """An .npz file as :class:`.LocalizationEvaluator` describes it; no column is in memory as a whole."""
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
            _write_column(file, name, dtype, shape, map(part, range(len(found))))


def _write_column(file: zipfile.ZipFile, name: str, dtype: str, shape: tuple, parts: Iterable[np.ndarray]) -> None:
    with file.open(f"{name}.npy", "w", force_zip64=True) as column:
        np.lib.format.write_array_header_1_0(column, {"descr": dtype, "fortran_order": False, "shape": shape})
        for part in parts:
            column.write(part.astype(dtype).tobytes())
