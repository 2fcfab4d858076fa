"""Datasets of the user: a file of images and labels per split."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from ...io import IMAGE_SUFFIXES
from ..types import DatasetDict
from .arrow_records import ArrowRecords
from .catalog import SPLITS, DatasetInfo, register, register_info
from .coco import is_coco_file, read_categories, read_image_names, register_coco
from .image_paths import image_path, is_remote
from .label_columns import read_files
from .label_names import SEPARATORS, check_class_names, check_listed_labels
from .label_rows import Locations
from .list_table import ListInfo, open_list
from .readers import class_indices, read_class_names
from .tabular import iter_rows, locate_row

logger = logging.getLogger(__name__)

_LISTS = (".csv", ".tsv", ".parquet", ".jsonl", ".json")
_REMEDY = (
    "Separate labels by ';' or set dataset.separator ({}); a class that is really named so is listed in "
    "dataset.classes (datasets/README.md)"
)


def register_files(
    name: str,
    files: Mapping[str, str | None],
    *,
    image_root: str | None = None,
    classes: Sequence[str] | str | None = None,
    split_names: Mapping[str, str | int | None] | None = None,
    separator: str | None = None,
    allow_remote: bool = False,
    allow_outside: bool = False,
) -> None:
    """Register ``<name>_train``, ``<name>_val`` and ``<name>_test``, and ``name`` for ``dataset.name``.

    Args:
        files: split -> file: a list of images (``register_image_list``) or COCO's instances format.
        image_root: folder of the image files, ``{split}`` in it is replaced; None: the folder of the file.
        classes: class names, or a text file with one name per line; None: the classes of the training file.
        split_names: split -> its name in the column ``split`` of a file that lists several splits.
        separator, allow_remote, allow_outside: as in ``register_image_list``.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a split has no file, a setting has another type, or a file is invalid; names it.
    """
    paths = {split: _text(path, f"dataset.files.{split}") for split in SPLITS if (path := files.get(split)) is not None}
    missing = [f"dataset.files.{split}" for split in SPLITS if split not in paths]
    if missing:
        raise ValueError(f"dataset.name={name}: set {', '.join(missing)}")
    for split, path in paths.items():
        if not os.path.exists(path):
            text = f"dataset.files.{split}={path} is missing: set it to a list of images (datasets/README.md)"
            raise FileNotFoundError(text)
    if image_root is not None:
        image_root = _text(image_root, "dataset.image_root")
    kinds = {split: is_coco_file(path) for split, path in paths.items()}
    for split, is_coco in kinds.items():
        if is_coco != kinds["train"]:
            first, other = ("in COCO's format", "is not") if kinds["train"] else ("a list of images", "is COCO's")
            text = f"dataset.files.train={paths['train']} is {first}, and dataset.files.{split}={paths[split]} {other}"
            raise ValueError(f"{text}: give three files of one format")
    options = {"allow_remote": allow_remote, "allow_outside": allow_outside}
    is_coco = kinds["train"]
    register_info(name, DatasetInfo(f"{name}_train", f"{name}_val", f"{name}_test", boxes=is_coco))
    if classes is None:
        train = paths["train"]
        classes = read_categories(train) if is_coco else _listed_labels(train, _check_separator(separator))
    for split, path in paths.items():
        root = image_root and image_root.replace("{split}", split)
        if is_coco:
            register_coco(f"{name}_{split}", path, root, classes, **options)
        else:
            part = (split_names or {}).get(split)
            part = None if part is None else _text(part, f"dataset.split_names.{split}")
            register_image_list(f"{name}_{split}", path, root, classes, part, separator, **options)


def register_image_list(
    name: str,
    file: str,
    image_root: str | None = None,
    classes: Sequence[str] | str | None = None,
    split: str | None = None,
    separator: str | None = None,
    *,
    allow_remote: bool = False,
    allow_outside: bool = False,
) -> None:
    """Register the images listed in a file, and read its classes.

    ``file`` is one of the files of ``read_tags`` (docs/tags.md): a CSV, Parquet or JSON-lines file with the columns
    ``file`` and ``labels`` (separated by ``;``) or a column for each class, or a JSON list of
    ``{"file": "a.jpg", "labels": ["cat", "dog"]}``. Labels that are neither positive nor negative are in ``unknown`` or
    have a question mark (``?cat``). All may have ``split``. An image without labels is a negative example of every
    class. The image ids are the file names as listed.

    Args:
        image_root: folder of the images; default: the folder of ``file``.
        classes: class names; or a text file with one name per line; or a list of images, whose sorted labels are the
            classes (for a validation list: the training list). Default: the labels of ``file``.
        split: use only the images of this ``split``.
        separator: of labels in a text: a key of ``SEPARATORS`` or a character; default: ``;``.
        allow_remote: addresses are read from the network; otherwise an error.
        allow_outside: files may be outside of ``image_root``; otherwise an error.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file or one of its lines is invalid; names it.
    """
    separator = _check_separator(separator)
    names = _listed_labels(file, separator) if classes is None else _class_names(classes, separator)
    root = os.path.dirname(file) if image_root is None else image_root
    options = {"allow_remote": allow_remote, "allow_outside": allow_outside}
    arguments = {"file": file, "image_root": root, "classes": names, "split": split, "separator": separator, **options}
    register(name, load_image_list, arguments, classes=names)


def register_unlabelled(
    name: str,
    path: str,
    image_root: str | None = None,
    split: str | None = None,
    *,
    classes: Sequence[str],
    allow_remote: bool = False,
    allow_outside: bool = False,
) -> None:
    """Register images whose labels are unknown: a folder with its subfolders, or a list as in ``register_image_list``.

    The list may lack the labels, which are not used, and may be a file in COCO's instances format.

    Args:
        path: folder or list.
        image_root: folder of the images of a list; default: the folder of ``path``.
        split: use only the images of this ``split`` of a list.
        classes: names of the classes that the labels of other images have.
        allow_remote, allow_outside: as in ``register_image_list``.

    Raises:
        FileNotFoundError: ``path`` is missing.
    """
    if not os.path.exists(path):
        text = f"dataset.files.unlabelled={path} is missing: set it to a folder of images or to a list of them"
        raise FileNotFoundError(f"{text} (datasets/README.md)")
    options = {"allow_remote": allow_remote, "allow_outside": allow_outside}
    arguments = {"path": path, "image_root": image_root, "split": split, "num_classes": len(classes), **options}
    register(name, load_unlabelled, arguments, classes=classes)


def load_unlabelled(
    path: str,
    image_root: str | None,
    split: str | None,
    num_classes: int,
    *,
    allow_remote: bool = False,
    allow_outside: bool = False,
) -> list[DatasetDict]:
    """Load the images of a folder or a list, with all labels unknown; see :func:`register_unlabelled`.

    Raises:
        ValueError: no images, an image that is listed twice, or one that is not allowed.
    """
    entries: Iterable[tuple[str, str, str | None]]
    if os.path.isdir(path):
        root, entries = path, ((path, name, split) for name in _list_images(path))
    else:
        root = os.path.dirname(path) if image_root is None else image_root
        entries = _read_unlabelled(path)
    records: dict[str, DatasetDict] = {}
    for location, name, image_split in entries:
        if split is not None and image_split != split:
            continue
        file = image_path(root, name, location, allow_remote=allow_remote, allow_outside=allow_outside)
        if file in records:
            raise ValueError(f"{location}: {name!r} is already listed")
        unknown = list(range(num_classes))
        records[file] = {"file_name": file, "image_id": name, "labels": [], "ignore_labels": unknown}
    if not records:
        raise ValueError(f"dataset.files.unlabelled={path} has no image ({', '.join(IMAGE_SUFFIXES)})")
    return list(records.values())


def _list_images(folder: str) -> list[str]:
    """Return the image files of a folder and its subfolders, relative to it, sorted."""
    files = (file for file in Path(folder).rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file())
    return sorted(file.relative_to(folder).as_posix() for file in files)


def _read_unlabelled(file: str) -> Iterator[tuple[str, str, str | None]]:
    """Yield location, name and ``split`` of each image of a CSV or JSON list, or of a COCO instances file."""
    if is_coco_file(file):
        yield from ((location, name, None) for location, name in read_image_names(file))
    else:
        yield from _read_files(file)


def _read_files(file: str) -> Iterator[tuple[str, str, str | None]]:
    for rows in iter_rows(file, needs_labels=False):
        _, names, splits = read_files(rows, file)
        for row, name in enumerate(names.to_pylist()):
            yield f"{file}, image {row + 1}", name, None if splits is None else splits[row].as_py()


def load_image_list(
    file: str,
    image_root: str,
    classes: Sequence[str],
    split: str | None = None,
    separator: str | None = None,
    *,
    allow_remote: bool = False,
    allow_outside: bool = False,
) -> ArrowRecords:
    """Load the images listed in a file; see :func:`register_image_list`.

    Raises:
        ValueError: no images, a duplicate image, an unknown label, or an image that is not allowed.
    """
    source, info = open_list(file, separator)
    if split is not None and split not in info.splits:
        raise ValueError(f"{file} lists no images of split '{split}'")
    if (split or "") in info.repeated:
        raise ValueError(info.repeated[split or ""])
    for label, row in info.first_rows(split).items():
        if label not in classes:
            class_indices([label], classes, locate_row(file, row))  # raises an error that names similar classes
    index = {name: k for k, name in enumerate(classes)}
    class_of = np.array([index.get(label, -1) for label in info.labels], np.int32)
    records = ArrowRecords(source, info.key, class_of, image_root)
    if split is not None and len(info.splits) > 1:
        records = records.select("split", info.splits.index(split))
    _check_names(records, file, image_root, info, {"allow_remote": allow_remote, "allow_outside": allow_outside})
    if separator is not None:
        logger.info("%s: labels are separated by %r", file, separator)
    return records


def _check_names(records: ArrowRecords, file: str, root: str, info: ListInfo, options: Mapping[str, bool]) -> None:
    """Raise the ValueError of ``image_path`` for the first name that is not allowed."""
    absolute = os.path.join(os.path.abspath(root), "")
    start = 0
    for table in records.tables():
        names, checked = table["file"], table["is_unusual"]
        if info.num_absolute and not options["allow_outside"]:
            outside = pc.and_not(pc.starts_with(names, "/"), pc.starts_with(names, absolute))
            checked = pc.or_(checked, outside)
        for row in np.flatnonzero(checked.to_numpy()).tolist():
            name, listed = names[row].as_py(), records.rows[start + row]
            try:
                image_path(root, name, "", **options)
            except ValueError:
                image_path(root, name, locate_row(file, int(listed)), **options)
        if is_remote(root):
            image_path(root, names[0].as_py(), locate_row(file, int(records.rows[0])), **options)
        start += table.num_rows


def _check_separator(separator: str | None) -> str | None:
    if separator is None:
        return None
    character = SEPARATORS.get(separator, separator)
    if not isinstance(character, str) or len(character) != 1 or character.isalnum():
        raise ValueError(f"dataset.separator={separator}: choose from {', '.join(SEPARATORS)}")
    return character


def _text(value: Any, key: str) -> str:
    """Return text, or an integer as text; other values of a setting are a ValueError."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value:
        raise ValueError(f"{key}={value!r}: set it to text")
    return value


def _class_names(source: Sequence[str] | str, separator: str | None) -> list[str]:
    is_list = isinstance(source, str) and source.lower().endswith(_LISTS)
    return _listed_labels(str(source), separator) if is_list else read_class_names(source)


def _listed_labels(file: str, separator: str | None) -> list[str]:
    """Return the classes of a list of images, checked: its sorted labels, or its columns."""
    _, info = open_list(file, separator)
    if info.is_ordered:
        check_class_names({name: f"column {name!r}" for name in info.labels}, file)
        return info.labels
    labels = Locations(info.first_rows(), lambda row: locate_row(file, row).removeprefix(f"{file}, "))
    check_listed_labels(labels, file, _REMEDY.format(", ".join(SEPARATORS)))
    if not labels:
        raise ValueError(f"{file}: the list of classes is empty, because no image has a label")
    return sorted(labels)
