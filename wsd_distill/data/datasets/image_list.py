"""Datasets of the user: a file of images and labels per split."""

from __future__ import annotations

import logging
import os
import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ...io import IMAGE_SUFFIXES
from ..types import DatasetDict
from .catalog import SPLITS, DatasetInfo, register, register_info
from .coco import is_coco_file, read_categories, read_image_names, register_coco
from .image_paths import image_path
from .label_names import SEPARATORS, check_listed_labels
from .readers import class_indices, read_class_names, read_csv, read_json

if TYPE_CHECKING:
    from typing_extensions import TypeGuard

logger = logging.getLogger(__name__)

_REMEDY = (
    "Separate labels by ';' or set dataset.separator ({}); a class that is really named so is listed in "
    "dataset.classes (datasets/README.md)"
)


class Entry(NamedTuple):
    """An image in a list."""

    location: str  # file and line, for error messages
    name: str
    labels: list[str]
    split: str | None
    unknown: list[str]  # labels of which it is not known whether the image has them


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
        files: split -> file: a CSV or JSON list of images (``register_image_list``) or COCO's instances format.
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

    ``file`` is a CSV with the columns ``file`` and ``labels`` (separated by ``;``), or a JSON list of
    ``{"file": "a.jpg", "labels": ["cat", "dog"]}``, with ``unknown`` for labels that are neither positive nor negative.
    Both may have ``split``. An image without labels is a negative example of every class. The image ids are the file
    names as listed.

    Args:
        image_root: folder of the images; default: the folder of ``file``.
        classes: class names; or a text file with one name per line; or a CSV or JSON list, whose sorted labels are the
            classes (for a validation list: the training list). Default: the labels of ``file``.
        split: use only the images of this ``split``.
        separator: of labels in a CSV: a key of ``SEPARATORS`` or a character; default: ``;``.
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
        entries = _read_entries(file, ";", needs_labels=False)
        yield from ((entry.location, entry.name, entry.split) for entry in entries)


def load_image_list(
    file: str,
    image_root: str,
    classes: Sequence[str],
    split: str | None = None,
    separator: str = ";",
    *,
    allow_remote: bool = False,
    allow_outside: bool = False,
) -> list[DatasetDict]:
    """Load the images listed in a file; see :func:`register_image_list`.

    Raises:
        ValueError: no images, a duplicate image, an unknown label, or an image that is not allowed.
    """
    records: list[DatasetDict] = []
    locations: dict[str, str] = {}
    for location, name, labels, image_split, unknown in _read_entries(file, separator):
        if split is not None and image_split != split:
            continue
        path = image_path(image_root, name, location, allow_remote=allow_remote, allow_outside=allow_outside)
        if path in locations:
            raise ValueError(f"{location}: {name!r} is already listed ({locations[path]})")
        locations[path] = location
        record: DatasetDict = {"file_name": path, "image_id": name, "labels": class_indices(labels, classes, location)}
        if unknown:
            record["ignore_labels"] = class_indices(unknown, classes, location)
            both = sorted(set(labels) & set(unknown))
            if both:
                raise ValueError(f"{location}: {both[0]!r} is among the labels and among the unknown ones: remove one")
        records.append(record)
    if not records:
        raise ValueError(f"{file} lists no images" + (f" of split '{split}'" if split is not None else ""))
    if separator != ";":
        logger.info("%s: labels are separated by %r", file, separator)
    return records


def _check_separator(separator: str | None) -> str:
    if separator is None:
        return ";"
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


def _class_names(source: Sequence[str] | str, separator: str) -> list[str]:
    is_list = isinstance(source, str) and source.lower().endswith((".csv", ".json"))
    return _listed_labels(str(source), separator) if is_list else read_class_names(source)


def _listed_labels(file: str, separator: str) -> list[str]:
    """Return the sorted labels of a list of images, checked."""
    labels: dict[str, str] = {}
    for location, _, names, _, unknown in _read_entries(file, separator):
        for label in (*names, *unknown):
            labels.setdefault(label, location.removeprefix(f"{file}, "))
    check_listed_labels(labels, file, _REMEDY.format(", ".join(SEPARATORS)))
    if not labels:
        raise ValueError(f"{file}: the list of classes is empty, because no image has a label")
    return sorted(labels)


def _read_entries(file: str, separator: str, needs_labels: bool = True) -> Iterator[Entry]:
    is_json = file.lower().endswith(".json")
    rows = read_json_entries(file, needs_labels) if is_json else _read_csv_entries(file, separator, needs_labels)
    for entry in rows:
        if not isinstance(entry.name, str) or not entry.name.strip():
            raise ValueError(f"{entry.location}: no file name")
        split = entry.split.strip() if entry.split else None
        yield entry._replace(name=entry.name.strip(), split=split)


def _read_csv_entries(file: str, separator: str, needs_labels: bool) -> Iterator[Entry]:
    (location, header), *rows = read_csv(file)
    header = [name.strip() for name in header]
    if not {"file", *(["labels"] if needs_labels else [])} <= set(header):
        columns = "columns 'file' and 'labels'" if needs_labels else "column 'file'"
        raise ValueError(f"{location}: the header {header} has to include the {columns}")
    for location, row in rows:
        fields = dict(zip(header, row))
        labels = [label.strip() for label in fields.get("labels", "").split(separator)]
        yield Entry(location, fields["file"], [label for label in labels if label], fields.get("split"), [])


def read_json_entries(file: str, needs_labels: bool = True) -> Iterator[Entry]:
    """Yield the images of a JSON list, ``[{"file": "a.jpg", "labels": ["cat", "dog"]}, ...]``.

    Raises:
        ValueError: the file is not such a list; names the entry.
    """
    content = read_json(file)
    if not isinstance(content, list):
        raise ValueError(f'{file} is not a list of {{"file": ..., "labels": [...]}}')
    for position, fields in enumerate(content):
        location = f"{file}, entry {position}"
        labels = fields.get("labels", None if needs_labels else []) if isinstance(fields, dict) else None
        unknown = fields.get("unknown", []) if isinstance(fields, dict) else None
        if not (is_text_list(labels) and is_text_list(unknown)):
            raise ValueError(
                f'{location} is not of the form {{"file": "a.jpg", "labels": ["cat", "dog"]}}: {reprlib.repr(fields)}'
            )
        split = fields.get("split")
        split = None if split is None else _text(split, f"{location}: split")
        yield Entry(location, fields.get("file"), labels, split, unknown)


def is_text_list(value: object) -> TypeGuard[list[str]]:
    """Whether a value of JSON is a list of texts."""
    return isinstance(value, list) and all(isinstance(text, str) for text in value)
