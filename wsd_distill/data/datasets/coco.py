"""Datasets in COCO's format; labels are the annotated classes, crowds included."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Callable, Sequence
from typing import Any

from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES
from detectron2.structures import BoxMode

from ...io import datasets_root
from ..boxes import IMPOSSIBLE, check_box
from ..types import Annotation, DatasetDict
from .catalog import SPLITS, DatasetInfo, keep_labelled, log_faults, register, register_holdout, register_info
from .image_paths import image_path
from .label_names import check_listed_labels
from .readers import check_unique, read_class_names, read_json, read_text

CLASSES = [category["name"] for category in COCO_CATEGORIES if category["isthing"]]  # by ascending category id
VOC5_CLASSES = ["bus", "car", "cat", "person", "train"]
LABELLED_IMAGES = {"train2014": 82_081, "val2014": 40_137, "train2017": 117_266, "val2017": 4_952}
_FIELDS = {
    "images": ("id", "file_name", "height", "width"),
    "annotations": ("image_id", "category_id", "bbox"),
    "categories": ("id", "name"),
}


def load_coco(
    json_file: str | os.PathLike,
    image_root: str | os.PathLike,
    classes: Sequence[str],
    *,
    allow_remote: bool = False,
    allow_outside: bool = False,
) -> list[DatasetDict]:
    """Load the images that have at least one annotation.

    An annotation with an impossible box keeps its label, and the box is left out. Ids are compared as text, so that
    an image "1" is image 1. Both are logged, and are ``faults`` of the dataset dicts.

    Args:
        json_file: annotations in COCO's instances format.
        image_root: folder of the images; each ``file_name`` is relative to it.
        classes: expected category names, by ascending category id.
        allow_remote, allow_outside: as in :func:`.image_path`.

    Returns:
        Dataset dicts; ``annotations`` are for evaluation only.

    Raises:
        FileNotFoundError: ``json_file`` is missing.
        ValueError: ``json_file`` has another format or other classes, a duplicate image id, an annotation of an
            unknown image or category, or an image that is not allowed.
    """
    content = _read(json_file)
    names = [category["name"] for category in content["categories"]]
    if names != list(classes):
        raise ValueError(f"{json_file} has the categories {names} (by ascending id), expected {list(classes)}")
    index = {_id_text(category["id"]): k for k, category in enumerate(content["categories"])}
    records: dict[str, DatasetDict] = {}
    for position, image in enumerate(content["images"]):
        location = f"{json_file}: images[{position}]"
        allowed = {"allow_remote": allow_remote, "allow_outside": allow_outside}
        records[_id_text(image["id"])] = {
            "file_name": image_path(image_root, image["file_name"], location, **allowed),
            "image_id": image["id"],
            "height": image["height"],
            "width": image["width"],
            "labels": [],
            "annotations": [],
        }
    for position, entry in enumerate(content["annotations"]):
        for key, known in (("image_id", records), ("category_id", index)):
            if _id_text(entry[key]) not in known:
                raise ValueError(f"{json_file}: annotations[{position}] has the unknown {key} {entry[key]!r}")
        _add(records[_id_text(entry["image_id"])], entry, index[_id_text(entry["category_id"])], position)
    for record in records.values():
        record["labels"] = sorted(set(record["labels"]))
    kept = keep_labelled(list(records.values()), str(json_file))
    if kept and content["faults"]:
        kept[0].setdefault("faults", []).extend(content["faults"])
    log_faults(kept, str(json_file))
    return kept


def _add(record: DatasetDict, entry: dict, category: int, position: int) -> None:
    """Add the label of an annotation, and its box if it is possible."""
    record["labels"].append(category)
    fault = check_box(entry["bbox"], BoxMode.XYWH_ABS, record["height"], record["width"])
    crowd = entry.get("iscrowd", 0)
    if crowd not in (0, 1):
        fault, crowd = (IMPOSSIBLE, f"iscrowd is {crowd!r}, not 0 or 1"), 0
    if fault:
        record.setdefault("faults", []).append(
            (fault[0], f"annotations[{position}] ({record['file_name']}): {fault[1]}")
        )
    if not fault or fault[0] != IMPOSSIBLE:
        box: Annotation = {
            "bbox": entry["bbox"],
            "bbox_mode": BoxMode.XYWH_ABS,
            "category_id": category,
            "iscrowd": crowd,
        }
        record["annotations"].append(box)


def _read(json_file: str | os.PathLike) -> dict[str, list]:
    """Read and check the three lists; categories are sorted by id. ``faults`` lists ids of another type."""
    content = read_json(json_file, object_hook=_drop_segmentation)
    for part, fields in _FIELDS.items():
        entries = content.get(part) if isinstance(content, dict) else None
        if not isinstance(entries, list):
            raise ValueError(f"{json_file} is not a COCO instances file: it has no list '{part}'")
        for position, entry in enumerate(entries):
            missing = [field for field in fields if not isinstance(entry, dict) or field not in entry]
            if missing:
                raise ValueError(f"{json_file} is not a COCO instances file: {part}[{position}] lacks {missing}")
            wrong = [field for field in fields if field in _TYPES and not _TYPES[field](entry[field])]
            if wrong:
                text = f"{part}[{position}] has the {wrong[0]} {reprlib.repr(entry[wrong[0]])}"
                raise ValueError(f"{json_file} is not a COCO instances file: {text}")
    check_unique((_id_text(image["id"]) for image in content["images"]), json_file)
    check_unique((_id_text(category["id"]) for category in content["categories"]), json_file, "category id")
    check_unique((category["name"] for category in content["categories"]), json_file, "category")
    content["faults"] = _mixed_ids(content)
    content["categories"].sort(key=lambda category: _id_order(category["id"]))
    return content


def _is_id(value: Any) -> bool:
    is_number = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return (is_number and not isinstance(value, bool)) or (isinstance(value, str) and bool(value.strip()))


def _is_length(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 10**6 and value == int(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


_TYPES: dict[str, Callable[[Any], bool]] = {
    "id": _is_id,
    "image_id": _is_id,
    "category_id": _is_id,
    "height": _is_length,
    "width": _is_length,
    "file_name": _is_text,
    "name": _is_text,
}


def _id_text(value: int | float | str) -> str:
    """Return an id as text: "1" for 1, 1.0 and "1"."""
    return value.strip() if isinstance(value, str) else str(int(value))


def _id_order(value: int | float | str) -> tuple[bool, int, str]:
    """Sort ids that are numbers, also as text, by number, and others after them."""
    text = _id_text(value)
    is_number = text.isascii() and text.isdigit() and len(text) < 100
    return not is_number, int(text) if is_number else 0, text


def _mixed_ids(content: dict[str, list[dict]]) -> list[tuple[str, str]]:
    """Describe each id that is text where most are numbers, or the reverse."""
    faults = []
    for key, part in (("image_id", "images"), ("category_id", "categories")):
        lists = (("annotations", key), (part, "id"))
        texts = sum(isinstance(entry[field], str) for name, field in lists for entry in content[name])
        total = sum(len(content[name]) for name, _ in lists)
        if 0 < texts < total:
            faults += [
                ("ids of mixed types are compared as text", f"{name}[{position}] has the {field} {entry[field]!r}")
                for name, field in lists
                for position, entry in enumerate(content[name])
                if isinstance(entry[field], str) == (2 * texts <= total)
            ]
    return faults


def _drop_segmentation(entry: dict) -> dict:
    """Drop the segmentation, most of the file's content, to save memory."""
    entry.pop("segmentation", None)
    return entry


def load_builtin(json_file: str, image_root: str, classes: Sequence[str]) -> list[DatasetDict]:
    """Call :func:`load_coco` with paths relative to ``datasets_root()``."""
    root = datasets_root()
    return load_coco(os.path.join(root, json_file), os.path.join(root, image_root), classes)


def is_coco_file(path: str | os.PathLike) -> bool:
    """Return whether a file is a JSON object, as in COCO's instances format, and not a list."""
    return str(path).lower().endswith(".json") and read_text(path, 1000).lstrip().startswith("{")


def read_categories(json_file: str | os.PathLike) -> list[str]:
    """Return the names of the categories in a COCO instances file, by ascending id, checked like labels of a list."""
    names = {category["name"]: f"category {category['id']}" for category in _read(json_file)["categories"]}
    if not names:
        raise ValueError(f"{json_file} has no categories")
    remedy = "Annotate each class for itself; a class that is really named so is listed in dataset.classes"
    check_listed_labels(names, str(json_file), remedy)
    return list(names)


def read_image_names(json_file: str | os.PathLike) -> list[tuple[str, str]]:
    """Return the location and ``file_name`` of each image in a COCO instances file, annotated or not."""
    names = [image["file_name"] for image in _read(json_file)["images"]]
    return [(f"{json_file}: images[{position}]", name) for position, name in enumerate(names)]


def register_coco(
    name: str,
    json_file: str,
    image_root: str | None = None,
    classes: Sequence[str] | str | None = None,
    *,
    allow_remote: bool = False,
    allow_outside: bool = False,
) -> None:
    """Register a dataset in COCO's instances format, which is read when it is loaded.

    Args:
        image_root: folder of the images; None: the folder of ``json_file``.
        classes: as in :func:`load_coco`, a text file with one name per line, or another COCO file; None: the
            categories of ``json_file``.
        allow_remote, allow_outside: as in :func:`.image_path`.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: an argument has another type, or a file is invalid; names it.
    """
    for key, value in (("name", name), ("json_file", json_file), ("image_root", image_root)):
        if not isinstance(value, (str, os.PathLike)) and not (value is None and key == "image_root"):
            raise ValueError(f"register_coco: {key} is {value!r}: set it to text")
    classes = json_file if classes is None else classes
    if isinstance(classes, str) and classes.lower().endswith(".json"):
        classes = read_categories(classes)
    classes = read_class_names(classes)
    root = os.path.dirname(json_file) if image_root is None else image_root
    allowed = {"allow_remote": allow_remote, "allow_outside": allow_outside}
    register(
        name, load_coco, {"json_file": json_file, "image_root": root, "classes": classes, **allowed}, classes=classes
    )


def _register_builtin(
    name: str, json_file: str, image_root: str, classes: Sequence[str], images: int | None = None
) -> None:
    arguments = {"json_file": json_file, "image_root": image_root, "classes": classes}
    register(name, load_builtin, arguments, classes=classes, images=images)


def register_all() -> None:
    """Register COCO's releases, and the samples ``coco3k`` and ``voc5`` in the same format."""
    for split, images in LABELLED_IMAGES.items():
        name, json_file = f"coco_{split[-4:]}_{split[:-4]}_mlc", f"coco/annotations/instances_{split}.json"
        _register_builtin(name, json_file, f"coco/{split}", CLASSES, images)
    for year, holdout in ((2014, 2_081), (2017, 2_266)):
        fit, val = register_holdout(f"coco_{year}_train_mlc", holdout)
        register_info(f"coco_{year}", DatasetInfo(fit, val, f"coco_{year}_val_mlc", boxes=True, recipe="vgg16"))
    for split in SPLITS:
        _register_builtin(f"coco3k_{split}", f"coco3k/instances_{split}.json", "coco3k/images", CLASSES)
    register_info("coco3k", DatasetInfo("coco3k_train", "coco3k_val", "coco3k_test", boxes=True))
    for split in ("train", "val"):
        _register_builtin(f"voc5_{split}", f"voc5/instances_{split}.json", f"voc5/{split}", VOC5_CLASSES)
    register_info("voc5", DatasetInfo("voc5_train", "voc5_val", "voc5_val", boxes=True))
