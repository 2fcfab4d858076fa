"""Labels of photos from annotated boxes: COCO's instances format and a folder of VOC's XML files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from ..data.datasets.coco import load_coco, read_categories, read_image_names
from ..data.datasets.label_rows import LabelRows
from ..data.datasets.readers import read_class_names
from ..data.datasets.voc import read_objects


def read_coco_labels(path: str, classes: Sequence[str] | None) -> LabelRows:
    """Read a file in COCO's instances format; the labels of a photo are its annotated categories.

    Photos without annotations are left out, as in :func:`.load_coco`, and counted in the notes.

    Raises:
        ValueError: as in :func:`.load_coco` and :func:`.read_categories`.
    """
    names = read_categories(path) if classes is None else read_class_names(classes)
    records = load_coco(path, "", names, allow_outside=True)
    pairs = [(row, k) for row, record in enumerate(records) for k in record["labels"]]
    rows, codes = np.array(pairs, np.int64).reshape(-1, 2).T
    files = [record["file_name"] for record in records]
    dropped = len(read_image_names(path)) - len(records)
    notes = [f"{path}: COCO's instances format, {len(names)} categories."]
    notes += [f"{path}: {dropped} photos without an annotation are left out."] if dropped else []
    unknown = np.zeros(len(rows), bool)
    file = pa.array(files, pa.string())
    return LabelRows(
        file, names, rows, codes, unknown, lambda row: f"{path}: {files[row]}", is_ordered=True, notes=notes
    )


def read_voc_labels(folder: Path) -> LabelRows:
    """Read the XML files of a folder; classes with difficult objects only are unknown.

    Raises:
        ValueError: a file is truncated or invalid; names it.
    """
    paths = sorted(folder.glob("*.xml"))
    files, labels = [], []
    for row, path in enumerate(paths):
        name, objects = read_objects(path)
        files.append(name or f"{path.stem}.jpg")
        known = {label for label, difficult in objects if not difficult}
        labels += [(row, label, label not in known) for label in sorted({label for label, _ in objects})]
    names = sorted({label for _, label, _ in labels})
    index = {name: k for k, name in enumerate(names)}
    return LabelRows(
        pa.array(files, pa.string()),
        names,
        np.array([row for row, _, _ in labels], np.int64),
        np.array([index[label] for _, label, _ in labels], np.int32),
        np.array([unknown for _, _, unknown in labels], bool),
        lambda row: str(paths[row]),
        notes=[f"{folder}: {len(paths)} VOC annotations; classes with difficult objects only are unknown."],
    )
