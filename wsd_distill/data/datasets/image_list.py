"""A user's own images: a CSV or JSON file that lists them with their labels."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from .catalog import register
from .readers import class_indices, read_csv, read_json, read_lines


class Entry(NamedTuple):
    """One image of a list."""

    place: str  # file and line, for errors
    file: str
    labels: list[str]
    split: str | None


def register_image_list(
    name: str,
    file: str,
    image_root: str | None = None,
    classes: Sequence[str] | str | None = None,
    split: str | None = None,
) -> None:
    """Register the images of ``file`` as dataset ``name``. Its classes are read now, its images when it is loaded.

    ``file`` is a CSV with a header, columns ``file`` and ``labels``, labels with ``;`` between them, or a JSON list of
    ``{"file": "a.jpg", "labels": ["cat", "dog"]}``. Either may say ``split``. An image without labels is a negative of
    every class. Image ids are the names in ``file``.

    Args:
        image_root: folder that names in ``file`` are relative to; its own folder unless given.
        classes: their names; or a text file with one in each line; or a CSV or JSON list, of which all labels are
            taken, sorted (for a validation list: the training list); None: those of ``file``.
        split: take only the images whose ``split`` is this.

    Raises:
        FileNotFoundError, ValueError: the file, or its line, that is missing or wrong.
    """
    names = _class_names(file if classes is None else classes)
    arguments = {
        "file": file,
        "image_root": os.path.dirname(file) if image_root is None else image_root,
        "classes": names,
        "split": split,
    }
    register(name, load_image_list, arguments, classes=names)


def load_image_list(file: str, image_root: str, classes: Sequence[str], split: str | None = None) -> list[dict]:
    """Dataset dicts, without sizes, which would mean to open every image; as :func:`register_image_list`.

    Raises:
        ValueError: no image, an image that is listed twice, or a label that is no class.
    """
    index = {name: k for k, name in enumerate(classes)}
    records, places = [], {}
    for entry in _read_entries(file):
        if split is not None and entry.split != split:
            continue
        path = os.path.normpath(os.path.join(image_root, entry.file))
        if path in places:
            raise ValueError(f"{entry.place}: {entry.file!r} is listed already ({places[path]})")
        places[path] = entry.place
        labels = class_indices(entry.labels, index, entry.place)
        records.append({"file_name": path, "image_id": entry.file, "labels": labels})
    if not records:
        raise ValueError(f"{file} lists no image" + (f" of split '{split}'" if split is not None else ""))
    return records


def _class_names(source: Sequence[str] | str) -> list[str]:
    if not isinstance(source, str):
        names = list(source)
    elif source.lower().endswith((".csv", ".json")):
        names = sorted({label for entry in _read_entries(source) for label in entry.labels})
    else:
        names = read_lines(source)
    if not names or len(set(names)) < len(names):
        raise ValueError(f"the classes of {source} are none, or one occurs twice: {names}")
    return names


def _read_entries(file: str) -> list[Entry]:
    return _json_entries(file) if file.lower().endswith(".json") else _csv_entries(file)


def _csv_entries(file: str) -> list[Entry]:
    (place, header), *rows = read_csv(file)
    header = [name.strip() for name in header]
    if not {"file", "labels"} <= set(header):
        raise ValueError(f"{place}: the header is {header}, but has to name the columns 'file' and 'labels'")
    entries = []
    for place, row in rows:
        fields = dict(zip(header, row))
        labels = [label.strip() for label in fields["labels"].split(";")]
        entries.append(_entry(place, fields["file"], [label for label in labels if label], fields.get("split")))
    return entries


def _json_entries(file: str) -> list[Entry]:
    content = read_json(file)
    if not isinstance(content, list):
        raise ValueError(f'{file} is no list of {{"file": ..., "labels": [...]}}')
    entries = []
    for position, fields in enumerate(content):
        place = f"{file}, entry {position}"
        labels = fields.get("labels") if isinstance(fields, dict) else None
        if not (isinstance(labels, list) and all(isinstance(label, str) for label in labels)):
            raise ValueError(f'{place} is not of the form {{"file": "a.jpg", "labels": ["cat", "dog"]}}: {fields!r}')
        split = fields.get("split")
        if not isinstance(split, (str, type(None))):
            raise ValueError(f'{place}: the split {split!r} is no text, write "{split}"')
        entries.append(_entry(place, fields.get("file"), labels, split))
    return entries


def _entry(place: str, file: str | None, labels: list[str], split: str | None) -> Entry:
    if not isinstance(file, str) or not file.strip():
        raise ValueError(f"{place}: no file name")
    return Entry(place, file.strip(), labels, split.strip() if split else None)
