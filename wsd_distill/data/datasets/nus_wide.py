"""NUS-WIDE: 81 concepts, 209,347 labelled images of 269,648.

Its files do not contain image sizes, so the dataset dicts have none.
"""

from __future__ import annotations

import ast
import hashlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from ..root import datasets_root
from ..types import DatasetDict
from .catalog import DatasetInfo, keep_labelled, register, register_info
from .holdout import register_holdout
from .readers import class_indices, read_csv, read_lines, read_text

logger = logging.getLogger(__name__)

CLASSES = (  # the order of Concepts81.txt
    "airport animal beach bear birds boats book bridge buildings cars castle cat cityscape clouds computer coral cow "
    "dancing dog earthquake elk fire fish flags flowers food fox frost garden glacier grass harbor horses house lake "
    "leaf map military moon mountain nighttime ocean person plane plants police protest railroad rainbow reflection "
    "road rocks running sand sign sky snow soccer sports statue street sun sunset surf swimmers tattoo temple tiger "
    "tower town toy train tree valley vehicle water waterfall wedding whales window zebra"
).split()
TRAIN_IMAGES = 150_000  # the paper's
LABELLED_IMAGES = {"train": 125_449, "test": 83_898}  # of the official 161,789 and 107,859


def load_nus_wide(
    split: str,
    root: str | os.PathLike | None = None,
    train_images: int = TRAIN_IMAGES,
    classes: Sequence[str] = CLASSES,
) -> list[DatasetDict]:
    """Load the paper's split: 150,000 labelled images for training, others for test.

    ``splits/train.txt`` and ``splits/test.txt`` define the split, with a path of ImageList per line. Without the folder
    ``splits``, the training images are those whose path has the smallest SHA-256, the same on every machine.

    Args:
        split: "train" or "test".
        root: root folder of the datasets; default: :func:`datasets_root`.
        train_images: number of training images without split files.
        classes: expected concepts, in alphabetical order.

    Raises:
        FileNotFoundError: a file of the expected layout is missing.
        ValueError: files contradict each other.
    """
    folder = Path(root or datasets_root()) / "nuswide"
    records = _records(folder, "train", classes) + _records(folder, "test", classes)
    records = keep_labelled(_unique(records, folder), str(folder))
    if (folder / "splits").exists():
        return _listed(folder, split, records)
    if len(records) <= train_images:
        raise ValueError(f"{folder} has {len(records)} labelled images, expected more than train_images={train_images}")
    logger.info("%s: split by SHA-256 of the path, because there is no folder 'splits'", folder)
    by_hash = sorted(records, key=lambda record: hashlib.sha256(str(record["image_id"]).encode()).digest())
    return by_hash[:train_images] if split == "train" else by_hash[train_images:]


def load_nus_wide_official(
    split: str, root: str | os.PathLike | None = None, classes: Sequence[str] = CLASSES
) -> list[DatasetDict]:
    """Load the labelled images of the official split; see :func:`load_nus_wide`."""
    folder = Path(root or datasets_root()) / "nuswide"
    return keep_labelled(_unique(_records(folder, split, classes), folder), f"{folder}, {split}")


def _records(folder: Path, split: str, classes: Sequence[str]) -> list[DatasetDict]:
    """Load all images of the official split, with their labels."""
    _check_classes(folder, classes)
    part = split.capitalize()
    paths = [line.replace("\\", "/") for line in read_lines(folder / "ImageList" / f"{part}Imagelist.txt")]
    labels: list[list[int]] = [[] for _ in paths]
    for k, concept in enumerate(classes):
        file = folder / "Groundtruth" / "TrainTestLabels" / f"Labels_{concept}_{part}.txt"
        column = read_text(file).split()
        if len(column) != len(paths) or not set(column) <= {"0", "1"}:
            raise ValueError(f"{file}: expected 0 or 1 for each of the {len(paths)} images, got {len(column)} lines")
        for i, flag in enumerate(column):
            if flag == "1":
                labels[i].append(k)
    return [_record(folder / "Flickr", path, found) for path, found in zip(paths, labels)]


def _record(image_root: Path, path: str, labels: list[int]) -> DatasetDict:
    return {"file_name": str(image_root / path), "image_id": path, "labels": labels}


def _check_classes(folder: Path, classes: Sequence[str]) -> None:
    """Check the concepts and their order against the list that comes with the dataset."""
    candidates = [folder / "ConceptsList" / "Concepts81.txt", folder / "Concepts81.txt"]
    file = next((path for path in candidates if path.exists()), candidates[0])
    if read_lines(file) != list(classes):
        raise ValueError(f"{file} does not list the {len(classes)} concepts of NUS-WIDE in alphabetical order")


def _unique(records: list[DatasetDict], source: Path) -> list[DatasetDict]:
    seen: set[int | str] = set()
    for record in records:
        if record["image_id"] in seen:
            raise ValueError(f"{source}: image '{record['image_id']}' is listed twice")
        seen.add(record["image_id"])
    return records


def _listed(folder: Path, split: str, records: list[DatasetDict]) -> list[DatasetDict]:
    """Return the labelled images listed in ``splits/<split>.txt``, in its order."""
    known = {record["image_id"]: record for record in records}
    lists = {name: read_lines(folder / "splits" / f"{name}.txt") for name in ("train", "test")}
    paths = {name: [line.replace("\\", "/") for line in lines] for name, lines in lists.items()}
    both = set(paths["train"]) & set(paths["test"])
    if both:
        raise ValueError(f"{folder / 'splits'}: {len(both)} images are in both lists, for example '{min(both)}'")
    unknown = [path for path in paths[split] if path not in known]
    if unknown:
        raise ValueError(
            f"{folder / 'splits' / split}.txt: {len(unknown)} images are not among the {len(known)} labelled images "
            f"of ImageList, the first is '{unknown[0]}'"
        )
    return _unique([known[path] for path in paths[split]], folder / "splits" / f"{split}.txt")


def load_nus_wide_csv(split: str, root: str | os.PathLike | None = None) -> list[DatasetDict]:
    """Load ``<root>/nuswide/nus_wid_data.csv``, used by multi-label repositories.

    Its three columns, of any name, are: path relative to its folder, labels as ``['clouds', 'sky']``, and split
    ("train" or "val"). An invalid line is a ValueError that names it.
    """
    file = Path(root or datasets_root()) / "nuswide" / "nus_wid_data.csv"
    (_, header), *rows = read_csv(file)
    if len(header) != 3:
        raise ValueError(f"{file}: expected three columns (path, labels, split), got {header}")
    index = {name: k for k, name in enumerate(CLASSES)}
    records = [
        _record(file.parent, path, class_indices(_parse_list(labels, location), index, location))
        for location, (path, labels, part) in rows
        if part == split
    ]
    if not records:
        raise ValueError(f"{file}: no images of split '{split}'")
    return keep_labelled(_unique(records, file), f"{file}, {split}")


def _parse_list(text: str, location: str) -> list[str]:
    try:
        return list(ast.literal_eval(text))
    except (ValueError, SyntaxError, TypeError) as error:
        raise ValueError(f"{location}: {text!r} is not a list of labels like ['clouds', 'sky']") from error


def register_all() -> None:
    """Register ``nuswide_*``, ``nuswide_official_*`` and ``nuswide_csv_*``."""
    paper = {"train": TRAIN_IMAGES, "test": sum(LABELLED_IMAGES.values()) - TRAIN_IMAGES}
    for split in ("train", "test"):
        arguments = {"split": split}
        register(f"nuswide_{split}", load_nus_wide, arguments, classes=CLASSES, images=paper[split])
        official = LABELLED_IMAGES[split]
        register(f"nuswide_official_{split}", load_nus_wide_official, arguments, classes=CLASSES, images=official)
    fit, val = register_holdout("nuswide_train", 2_000)
    register_info("nus_wide", DatasetInfo(fit, val, "nuswide_test", t_teacher=2.0, recipe="vgg16"))
    for split in ("train", "val"):
        register(f"nuswide_csv_{split}", load_nus_wide_csv, {"split": split}, classes=CLASSES)
