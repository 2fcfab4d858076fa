"""Datasets in COCO's format; labels are the annotated classes, crowds included."""

from __future__ import annotations

import os
from collections.abc import Sequence

from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES
from detectron2.structures import BoxMode

from ...io import datasets_root
from ..types import Annotation, DatasetDict
from .catalog import SPLITS, DatasetInfo, keep_labelled, register, register_holdout, register_info
from .readers import check_unique, read_json, read_lines, read_text

CLASSES = [category["name"] for category in COCO_CATEGORIES if category["isthing"]]  # by ascending category id
VOC5_CLASSES = ["bus", "car", "cat", "person", "train"]
LABELLED_IMAGES = {"train2014": 82_081, "val2014": 40_137, "train2017": 117_266, "val2017": 4_952}
_FIELDS = {
    "images": ("id", "file_name", "height", "width"),
    "annotations": ("image_id", "category_id", "bbox"),
    "categories": ("id", "name"),
}


def load_coco(json_file: str | os.PathLike, image_root: str | os.PathLike, classes: Sequence[str]) -> list[DatasetDict]:
    """Load the images that have at least one annotation.

    Args:
        json_file: annotations in COCO's instances format.
        image_root: folder of the images; each ``file_name`` is relative to it.
        classes: expected category names, by ascending category id.

    Returns:
        Dataset dicts; ``annotations`` are for evaluation only.

    Raises:
        FileNotFoundError: ``json_file`` is missing.
        ValueError: ``json_file`` has another format or other classes, a duplicate image id, or an annotation of an
            unknown image or category.
    """
    content = _read(json_file)
    names = [category["name"] for category in content["categories"]]
    if names != list(classes):
        raise ValueError(f"{json_file} has the categories {names} (by ascending id), expected {list(classes)}")
    index = {category["id"]: k for k, category in enumerate(content["categories"])}
    check_unique((image["id"] for image in content["images"]), json_file)
    annotations: dict[int, list[Annotation]] = {image["id"]: [] for image in content["images"]}
    for position, annotation in enumerate(content["annotations"]):
        for key, known in (("image_id", annotations), ("category_id", index)):
            if annotation[key] not in known:
                raise ValueError(f"{json_file}: annotations[{position}] has the unknown {key} {annotation[key]!r}")
        annotations[annotation["image_id"]].append(
            {
                "bbox": annotation["bbox"],
                "bbox_mode": BoxMode.XYWH_ABS,
                "category_id": index[annotation["category_id"]],
                "iscrowd": annotation.get("iscrowd", 0),
            }
        )
    records: list[DatasetDict] = [
        {
            "file_name": os.path.join(image_root, image["file_name"]),
            "image_id": image["id"],
            "height": image["height"],
            "width": image["width"],
            "labels": sorted({annotation["category_id"] for annotation in annotations[image["id"]]}),
            "annotations": annotations[image["id"]],
        }
        for image in content["images"]
    ]
    return keep_labelled(records, str(json_file))


def _read(json_file: str | os.PathLike) -> dict[str, list[dict]]:
    """Read and check the three lists; categories are sorted by id."""
    content = read_json(json_file, object_hook=_drop_segmentation)
    for part, fields in _FIELDS.items():
        entries = content.get(part) if isinstance(content, dict) else None
        if not isinstance(entries, list):
            raise ValueError(f"{json_file} is not a COCO instances file: it has no list '{part}'")
        for position, entry in enumerate(entries):
            missing = [field for field in fields if not isinstance(entry, dict) or field not in entry]
            if missing:
                raise ValueError(f"{json_file} is not a COCO instances file: {part}[{position}] lacks {missing}")
    content["categories"].sort(key=lambda category: category["id"])
    return content


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
    """Return the names of the categories in a COCO instances file, by ascending id."""
    return [category["name"] for category in _read(json_file)["categories"]]


def register_coco(name: str, json_file: str, image_root: str | None, classes: Sequence[str] | str) -> None:
    """Register a dataset in COCO's instances format, which is read when it is loaded.

    Args:
        image_root: folder of the images; None: the folder of ``json_file``.
        classes: as in :func:`load_coco`, or a text file with one name per line.
    """
    classes = read_lines(classes) if isinstance(classes, str) else list(classes)
    root = os.path.dirname(json_file) if image_root is None else image_root
    register(name, load_coco, {"json_file": json_file, "image_root": root, "classes": classes}, classes=classes)


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
