"""PASCAL VOC 2007 and 2012; classes with difficult objects only are ignored."""

from __future__ import annotations

import logging
import xml.etree.ElementTree as ET
from pathlib import Path

from detectron2.data.datasets.pascal_voc import CLASS_NAMES
from detectron2.structures import BoxMode

from ...io import datasets_root
from ..boxes import IMPOSSIBLE, check_box
from ..types import Annotation, DatasetDict
from .catalog import DatasetInfo, log_faults, register, register_holdout, register_info
from .image_paths import image_path
from .readers import check_unique, class_indices, read_lines, read_text

logger = logging.getLogger(__name__)

CLASSES = list(CLASS_NAMES)  # alphabetical
IMAGES = {
    2007: {"train": 2_501, "val": 2_510, "trainval": 5_011, "test": 4_952},
    2012: {"train": 5_717, "val": 5_823, "trainval": 11_540},
}


def load_voc(year: int, split: str) -> list[DatasetDict]:
    """Load a list of ``ImageSets/Main`` of ``VOC<year>``, all images in its order.

    ``labels`` are the classes with at least one object that is not difficult, ``ignore_labels`` those with difficult
    objects only. ``annotations`` have the key ``difficult``.

    Raises:
        FileNotFoundError: a list or an annotation file is missing.
        ValueError: an invalid annotation file, an unknown class, or a duplicate image; names it.
    """
    folder = Path(datasets_root()) / f"VOC{year}"
    image_list = folder / "ImageSets" / "Main" / f"{split}.txt"
    image_ids = read_lines(image_list)
    check_unique(image_ids, image_list)
    records = [_record(folder, image_id) for image_id in image_ids]
    log_faults(records, str(image_list))
    ignored = [len(record["ignore_labels"]) for record in records if record["ignore_labels"]]
    if ignored:
        logger.info(
            "%s: %d labels in %d images ignored: difficult objects only", image_list, sum(ignored), len(ignored)
        )
    return records


def _record(folder: Path, image_id: str) -> DatasetDict:
    file_name = image_path(folder / "JPEGImages", f"{image_id}.jpg", f"{folder.name}: image '{image_id}'")
    path = folder / "Annotations" / f"{image_id}.xml"
    text = read_text(path)
    try:
        tree = ET.fromstring(text)
        height, width = (int(_text(tree, f"size/{key}")) for key in ("height", "width"))
        if min(height, width) < 1:
            raise ValueError(f"the size is {width} x {height}")
        annotations = [_annotation(node) for node in tree.iterfind("object")]
    except (ET.ParseError, ValueError) as error:
        raise ValueError(f"{path} is truncated or not a valid VOC annotation: {error}") from error
    labels = {a["category_id"] for a in annotations if not a["difficult"]}
    record: DatasetDict = {
        "file_name": file_name,
        "image_id": image_id,
        "height": height,
        "width": width,
        "labels": sorted(labels),
        "ignore_labels": sorted({a["category_id"] for a in annotations} - labels),
        "annotations": [],
    }
    for position, annotation in enumerate(annotations):
        fault = check_box(annotation["bbox"], BoxMode.XYXY_ABS, height, width)
        if fault:
            record.setdefault("faults", []).append((fault[0], f"{path}, object {position}: {fault[1]}"))
        if not fault or fault[0] != IMPOSSIBLE:
            record["annotations"].append(annotation)
    return record


def read_objects(path: str | Path) -> tuple[str, list[tuple[str, int]]]:
    """Return the file name in an annotation file ("" if none), and name and difficulty (0, 1) of each object.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: it is truncated or invalid; names it.
    """
    text = read_text(path)
    try:
        tree = ET.fromstring(text)
        return tree.findtext("filename", "").strip(), [_object(node) for node in tree.iterfind("object")]
    except (ET.ParseError, ValueError) as error:
        raise ValueError(f"{path} is truncated or not a valid VOC annotation: {error}") from error


def _object(node: ET.Element) -> tuple[str, int]:
    name, difficult = _text(node, "name"), node.findtext("difficult", "0").strip()
    if difficult not in ("0", "1"):
        raise ValueError(f"the element difficult is {difficult!r}, not 0 or 1")
    return name, int(difficult)


def _annotation(node: ET.Element) -> Annotation:
    name, difficult = _object(node)
    (category,) = class_indices([name], CLASSES, "object")
    return {
        "bbox": _box(node),
        "bbox_mode": BoxMode.XYXY_ABS,
        "category_id": category,
        "difficult": difficult,
    }


def _box(node: ET.Element) -> list:
    """Return XYXY_ABS, or the texts of the elements if they are not numbers."""
    texts = [node.findtext(f"bndbox/{key}") for key in ("xmin", "ymin", "xmax", "ymax")]
    try:
        x0, y0, x1, y1 = (float(text or "") for text in texts)
    except ValueError:
        return texts
    return [x0 - 1, y0 - 1, x1, y1]  # VOC counts pixels from 1 and includes the last one


def _text(node: ET.Element, path: str) -> str:
    text = node.findtext(path)
    if text is None:
        raise ValueError(f"no element {path}")
    return text


def register_all() -> None:
    """Register ``voc_<year>_<split>_mlc``."""
    for year, splits in IMAGES.items():
        for split, images in splits.items():
            arguments = {"year": year, "split": split}
            register(f"voc_{year}_{split}_mlc", load_voc, arguments, classes=CLASSES, images=images)
    for year, train, test, holdout in ((2007, "trainval", "test", 531), (2012, "train", "val", 597)):
        fit, val = register_holdout(f"voc_{year}_{train}_mlc", holdout)
        register_info(f"voc_{year}", DatasetInfo(fit, val, f"voc_{year}_{test}_mlc", boxes=True, recipe="vgg16"))
