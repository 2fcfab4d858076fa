"""Datasets of the user: a file of images and labels per split."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..types import DatasetDict
from .catalog import SPLITS, DatasetInfo, register, register_info
from .coco import is_coco_file, read_categories, register_coco
from .readers import class_indices, read_csv, read_json, read_lines


def register_files(
    name: str,
    files: Mapping[str, str | None],
    *,
    image_root: str | None = None,
    classes: Sequence[str] | str | None = None,
    split_names: Mapping[str, str | None] | None = None,
) -> None:
    """Register ``<name>_train``, ``<name>_val`` and ``<name>_test``, and ``name`` for ``dataset.name``.

    Args:
        files: split -> file: a CSV or JSON list of images (``register_image_list``) or COCO's instances format.
        image_root: folder of the image files, ``{split}`` in it is replaced; None: the folder of the file.
        classes: class names, or a text file with one name per line; None: the classes of the training file.
        split_names: split -> its name in the column ``split`` of a file that lists several splits.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a split has no file, or a file is invalid; names it.
    """
    paths = {split: path for split in SPLITS if (path := files.get(split))}
    missing = [f"dataset.files.{split}" for split in SPLITS if split not in paths]
    if missing:
        raise ValueError(f"dataset.name={name}: set {', '.join(missing)}")
    is_coco = is_coco_file(paths["train"])
    register_info(name, DatasetInfo(f"{name}_train", f"{name}_val", f"{name}_test", boxes=is_coco))
    if classes is None:
        classes = read_categories(paths["train"]) if is_coco else paths["train"]
    for split, path in paths.items():
        root = image_root and image_root.replace("{split}", split)
        if is_coco:
            register_coco(f"{name}_{split}", path, root, classes)
        else:
            register_image_list(f"{name}_{split}", path, root, classes, (split_names or {}).get(split))


def register_image_list(
    name: str,
    file: str,
    image_root: str | None = None,
    classes: Sequence[str] | str | None = None,
    split: str | None = None,
) -> None:
    """Register the images listed in a file, and read its classes.

    ``file`` is a CSV with the columns ``file`` and ``labels`` (separated by ``;``), or a JSON list of
    ``{"file": "a.jpg", "labels": ["cat", "dog"]}``. Both may have ``split``. An image without labels is a negative
    example of every class. The image ids are the file names as listed.

    Args:
        image_root: folder of the images; default: the folder of ``file``.
        classes: class names; or a text file with one name per line; or a CSV or JSON list, whose sorted labels are the
            classes (for a validation list: the training list). Default: the labels of ``file``.
        split: use only the images of this ``split``.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file or one of its lines is invalid; names it.
    """
    names = _class_names(file if classes is None else classes)
    root = os.path.dirname(file) if image_root is None else image_root
    arguments = {"file": file, "image_root": root, "classes": names, "split": split}
    register(name, load_image_list, arguments, classes=names)


def load_image_list(file: str, image_root: str, classes: Sequence[str], split: str | None = None) -> list[DatasetDict]:
    """Load the images listed in a file; see :func:`register_image_list`.

    Raises:
        ValueError: no images, a duplicate image, or an unknown label.
    """
    records: list[DatasetDict] = []
    locations: dict[str, str] = {}
    for location, name, labels, image_split in _read_entries(file):
        if split is not None and image_split != split:
            continue
        path = os.path.normpath(os.path.join(image_root, name))
        if path in locations:
            raise ValueError(f"{location}: {name!r} is already listed ({locations[path]})")
        locations[path] = location
        records.append({"file_name": path, "image_id": name, "labels": class_indices(labels, classes, location)})
    if not records:
        raise ValueError(f"{file} lists no images" + (f" of split '{split}'" if split is not None else ""))
    return records


def _class_names(source: Sequence[str] | str) -> list[str]:
    if not isinstance(source, str):
        names = list(source)
    elif source.lower().endswith((".csv", ".json")):
        names = sorted({label for _, _, labels, _ in _read_entries(source) for label in labels})
    else:
        names = read_lines(source)
    if not names or len(set(names)) < len(names):
        raise ValueError(f"{source}: the list of classes is empty or has duplicates: {names}")
    return names


def _read_entries(file: str) -> Iterator[tuple[str, str, list[str], str | None]]:
    """Yield location (file and line, for error messages), file name, labels and split of each image."""
    read = _read_json_entries if file.lower().endswith(".json") else _read_csv_entries
    for location, name, labels, split in read(file):
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"{location}: no file name")
        yield location, name.strip(), labels, split.strip() if split else None


def _read_csv_entries(file: str) -> Iterator[tuple[str, Any, list[str], str | None]]:
    (location, header), *rows = read_csv(file)
    header = [name.strip() for name in header]
    if not {"file", "labels"} <= set(header):
        raise ValueError(f"{location}: the header {header} has to include the columns 'file' and 'labels'")
    for location, row in rows:
        fields = dict(zip(header, row))
        labels = [label.strip() for label in fields["labels"].split(";")]
        yield location, fields["file"], [label for label in labels if label], fields.get("split")


def _read_json_entries(file: str) -> Iterator[tuple[str, Any, list[str], str | None]]:
    content = read_json(file)
    if not isinstance(content, list):
        raise ValueError(f'{file} is not a list of {{"file": ..., "labels": [...]}}')
    for position, fields in enumerate(content):
        location = f"{file}, entry {position}"
        labels = fields.get("labels") if isinstance(fields, dict) else None
        if not (isinstance(labels, list) and all(isinstance(label, str) for label in labels)):
            raise ValueError(f'{location} is not of the form {{"file": "a.jpg", "labels": ["cat", "dog"]}}: {fields!r}')
        split = fields.get("split")
        if not isinstance(split, (str, type(None))):
            raise ValueError(f'{location}: the split {split!r} is not a string, write "{split}"')
        yield location, fields.get("file"), labels, split
