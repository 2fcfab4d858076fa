"""Labels of photos from annotated boxes: COCO's instances format and a folder of VOC's XML files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from ..data.datasets.coco import load_coco, read_categories, read_image_names
from ..data.datasets.faults import RowFaults
from ..data.datasets.label_rows import LabelRows
from ..data.datasets.readers import read_class_names
from ..data.datasets.voc import read_objects
from ..data.types import DatasetDict


def read_coco_labels(path: str, classes: Sequence[str] | None, faults: RowFaults) -> LabelRows:
    """Read a file in COCO's instances format; the labels of a photo are its annotated categories.

    Photos without annotations are left out, as in :func:`.load_coco`, and counted in the notes. Impossible boxes are
    warnings if ``faults`` are collected.

    Raises:
        ValueError: as in :func:`.load_coco` and :func:`.read_categories`.
    """
    names = read_categories(path) if classes is None else read_class_names(classes)
    records = load_coco(path, "", names, allow_outside=True)
    if faults.collect:
        _add_box_faults(path, records, faults)
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


def _add_box_faults(path: str, records: list[DatasetDict], faults: RowFaults) -> None:
    kinds: dict[str, list[str]] = {}
    for kind, detail in (fault for record in records for fault in record.get("faults", [])):
        kinds.setdefault(kind, []).append(detail)
    for kind, details in kinds.items():
        remedy = "correct the annotations where boxes are used; labels are read all the same"
        faults.add_details(f"{path}: {kind}", remedy, details, is_warning=True)


def read_voc_labels(folder: Path, faults: RowFaults) -> LabelRows:
    """Read the XML files of a folder; classes with difficult objects only are unknown.

    Raises:
        ValueError: a file is truncated or invalid; names it.
    """
    paths = sorted(folder.glob("*.xml"))
    files, labels = [], []
    errors: dict[int, str] = {}
    for row, path in enumerate(paths):
        try:
            name, objects = read_objects(path)
        except ValueError as error:
            if not faults.collect:
                raise
            errors[row], name, objects = str(error), "", []
        files.append(name or f"{path.stem}.jpg")
        known = {label for label, difficult in objects if not difficult}
        labels += [(row, label, label not in known) for label in sorted({label for label, _ in objects})]
    text, remedy = "Annotations that cannot be read", "correct them, or remove the files"
    faults.add(text, remedy, list(errors), errors.__getitem__)
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
