"""Tags of photos, from each format that people have them in."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..data.datasets.coco import is_coco_file
from ..data.datasets.faults import RAISE, SHOWN, RowFaults
from ..data.datasets.label_columns import read_labels, true_rows
from ..data.datasets.label_names import SEPARATORS, check_class_names, check_listed_labels, find_label_faults
from ..data.datasets.label_rows import LabelRows, build_lists
from ..data.datasets.readers import class_indices, read_class_names
from ..data.datasets.tabular import read_rows
from .annotated import read_coco_labels, read_voc_labels
from .photo_files import check_found, normalize_names
from .table import SPLITS, TagTable

_METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
_SPLITS = {"train": "train", "val": "val", "validation": "val", "valid": "val", "test": "test"}
_REMEDY = f"Choose what separates labels ({', '.join(SEPARATORS)}), or list the classes if one is really named so"


def read_tags(
    source: str | os.PathLike | Mapping[str, str | os.PathLike],
    images: str | os.PathLike | None = None,
    separator: str | None = None,
    classes: Sequence[str] | str | None = None,
    *,
    check_files: bool = True,
    faults: RowFaults = RAISE,
) -> TagTable:
    """Read photos and their tags (docs/tags.md).

    Args:
        source: CSV, Parquet, JSON lines, JSON list or COCO file; folder with VOC's XML files, or with Hugging Face's
            ``metadata.csv`` (``.jsonl``, ``.parquet``); or several of them, by split ("train", "val", "test").
        images: folder of the photos; None: unknown, so that names have to be relative and are not looked for.
        separator: of labels in one text: a character or a key of ``SEPARATORS``; None: detected.
        classes: class names, or a text file with one per line; None: the classes of a one-hot or COCO file in its
            order, otherwise all labels, sorted.
        check_files: a photo that is not in ``images`` is an error.
        faults: of rows of one file: the first is an error; or all are collected and their rows left out, so that
            no photo may be left.

    Raises:
        FileNotFoundError: a file or a photo is missing.
        ValueError: a file or one of its rows is invalid; names file and line.
    """
    images = None if images is None else os.fspath(images)
    if images is not None and not os.path.isdir(images):
        raise FileNotFoundError(f"{images} is not a folder: give the folder of the photos")
    if isinstance(classes, str) and not os.path.exists(classes):
        raise FileNotFoundError(f"--classes {classes}: there is no such file: give a text file with one class per line")
    names = None if classes is None else read_class_names(classes)
    if isinstance(source, Mapping):
        unknown = sorted(set(source) - set(SPLITS))
        if unknown or not source:
            raise ValueError(f"files by split: {', '.join(unknown) or 'none'}: give {', '.join(SPLITS)}")
        parts = {split: _read(os.fspath(path), separator, names, faults) for split, path in source.items()}
        for split, part in parts.items():
            part.split = pa.array([split]).take(pa.array(np.zeros(len(part.file), np.int32)))
        rows = _join(list(parts.values()))
    else:
        rows = _read(os.fspath(source), separator, names, faults)
    return _build_table(rows, images, names, check_files, faults)


def _read(path: str, separator: str | None, classes: list[str] | None, faults: RowFaults) -> LabelRows:
    if os.path.isdir(path):
        folder = Path(path)
        found = [folder / name for name in _METADATA if (folder / name).exists()]
        if found:
            return _read(str(found[0]), separator, classes, faults)
        folder = folder / "Annotations" if (folder / "Annotations").is_dir() else folder
        if not any(folder.glob("*.xml")):
            raise ValueError(
                f"{path} has no {', '.join(_METADATA)} and no VOC annotations (*.xml): give a file of tags"
            )
        return read_voc_labels(folder, faults)
    if os.path.exists(path) and is_coco_file(path):
        return read_coco_labels(path, classes, faults)
    rows = read_labels(read_rows(path), path, separator, faults)
    rows.split = None if rows.split is None else _name_splits(rows.split, rows.where, faults)
    return rows


def _name_splits(split: pa.Array, where: Callable[[int], str], faults: RowFaults) -> pa.Array | None:
    """Return train, val or test of each row; None if all are blank."""
    index = pc.index_in(split, pa.array(list(_SPLITS)))
    if split.null_count == len(split):
        return None
    text, remedy = "Rows with another split", "write train, val or test in every row, or leave the column out"
    rows = true_rows(pc.is_null(index))
    faults.add(text, remedy, rows, lambda row: f"{where(row)}: the split is {split[row].as_py() or ''!r}")
    return pc.take(pa.array(list(_SPLITS.values())), index)


def _join(parts: list[LabelRows]) -> LabelRows:
    """Join files of several splits; the classes are in order if those of all files are the same."""
    names = list(dict.fromkeys(name for part in parts for name in part.names))
    index = {name: k for k, name in enumerate(names)}
    starts = np.cumsum([0] + [len(part.file) for part in parts])
    codes = [np.array([index[name] for name in part.names], np.int32)[part.codes] for part in parts]

    def where(row: int) -> str:
        number = int(np.searchsorted(starts, row, side="right")) - 1
        return parts[number].where(row - int(starts[number]))

    return LabelRows(
        file=pa.concat_arrays([part.file for part in parts]),
        names=names,
        rows=np.concatenate([part.rows + start for part, start in zip(parts, starts)]),
        codes=np.concatenate(codes),
        unknown=np.concatenate([part.unknown for part in parts]),
        where=where,
        split=pa.concat_arrays([part.split for part in parts]),
        is_ordered=all(part.is_ordered and part.names == names for part in parts),
        notes=[note for part in parts for note in part.notes],
    )


def _build_table(
    rows: LabelRows, images: str | None, classes: list[str] | None, check_files: bool, faults: RowFaults
) -> TagTable:
    rows = rows.without(faults.take_rows())
    if not len(rows.file) and not faults.found:
        raise ValueError(f"{'; '.join(rows.notes)} No photo is left: add photos with tags")
    rows.file = normalize_names(rows.file, images, rows.where, faults)
    if faults.collect:
        rows = rows.without(faults.take_rows())
        _collect_label_faults(rows, classes, faults)
        rows = rows.without(faults.take_rows())
    file = rows.file
    if images is not None and check_files:
        check_found(file, images, rows.where)
    classes, codes = _index_classes(rows, classes)
    lists = [build_lists(rows.rows[kept], codes[kept], len(file)) for kept in (~rows.unknown, rows.unknown)]
    split = pa.nulls(len(file), pa.string()) if rows.split is None else rows.split
    table = pa.table({"file": file, "positive": lists[0], "unknown": lists[1], "split": split})
    return TagTable(table, classes, rows.notes)


def _collect_label_faults(rows: LabelRows, classes: list[str] | None, faults: RowFaults) -> None:
    """Collect labels that are not in ``classes`` or that look wrong, and leave out their rows."""
    locations = rows.locations()
    if classes is not None:
        text, remedy = "Labels that are not in the classes", "Correct them, or add them to --classes"
        wrong = {label: "is not in the classes" for label in locations if label not in classes}
    else:
        text, remedy = "Labels that look wrong", _REMEDY
        wrong = {} if rows.is_ordered else dict(find_label_faults(locations))
    if wrong:
        dropped = np.unique(rows.rows[np.isin(rows.codes, [rows.names.index(label) for label in wrong])])
        shown = [f"{locations[label]}: label {label!r} {wrong[label]}" for label in list(wrong)[:SHOWN]]
        faults.add_details(f"{text}, in {len(dropped)} rows", remedy, shown, len(wrong))
        faults.drop(dropped)


def _index_classes(rows: LabelRows, classes: list[str] | None) -> tuple[list[str], np.ndarray]:
    """Return the classes, and the class index of each label (M,)."""
    locations = rows.locations()
    if classes is not None:
        for label in locations:
            if label not in classes:
                class_indices([label], classes, locations[label])  # raises an error that names similar classes
        missing = [name for name in classes if name not in rows.names] if rows.is_ordered else []
        if missing:
            raise ValueError(f"no column or category is named {missing[0]!r}, which is one of the classes: add it")
    elif rows.is_ordered:
        classes = rows.names
        check_class_names({name: f"column {name!r}" for name in classes}, rows.notes[0].partition(":")[0])
    else:
        if not len(locations) and len(rows.file):
            raise ValueError(f"{rows.where(0)}: neither this photo nor another has a label: write labels")
        check_listed_labels(locations, "labels", _REMEDY)
        classes = sorted(locations)
    index = {name: k for k, name in enumerate(classes)}
    lookup = np.array([index.get(name, -1) for name in rows.names] or [0], np.int32)
    return classes, lookup[rows.codes]
