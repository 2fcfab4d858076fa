"""NUS-WIDE: 81 concepts, 209,347 labelled images of 269,648.

Its files do not contain image sizes, so the dataset dicts have none.
"""

from __future__ import annotations

import ast
import hashlib
import logging
import reprlib
from pathlib import Path

from ...io import datasets_root
from ..types import DatasetDict
from .catalog import DatasetInfo, keep_labelled, register, register_holdout, register_info
from .image_paths import image_path
from .readers import check_unique, class_indices, read_csv, read_lines, read_text

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


def load_nus_wide(split: str) -> list[DatasetDict]:
    """Load the paper's split: 150,000 labelled images for training, others for test.

    ``splits/train.txt`` and ``splits/test.txt`` define the split, with a path of ImageList per line. Without the folder
    ``splits``, the training images are those whose path has the smallest SHA-256, the same on every machine.

    Raises:
        FileNotFoundError: a file of the expected layout is missing.
        ValueError: files contradict each other.
    """
    folder = Path(datasets_root()) / "nuswide"
    records = _records(folder, "train", "test")
    if (folder / "splits").exists():
        return _listed(folder / "splits", split, records)
    if len(records) <= TRAIN_IMAGES:
        raise ValueError(f"{folder} has {len(records)} labelled images, expected more than {TRAIN_IMAGES}")
    logger.info("%s: split by SHA-256 of the path, because there is no folder 'splits'", folder)
    by_hash = sorted(records, key=lambda record: hashlib.sha256(str(record["image_id"]).encode()).digest())
    return by_hash[:TRAIN_IMAGES] if split == "train" else by_hash[TRAIN_IMAGES:]


def load_nus_wide_official(split: str) -> list[DatasetDict]:
    """Load the labelled images of the official split; see :func:`load_nus_wide`."""
    return _records(Path(datasets_root()) / "nuswide", split)


def _records(folder: Path, *splits: str) -> list[DatasetDict]:
    """Load the labelled images of official splits."""
    candidates = [folder / "ConceptsList" / "Concepts81.txt", folder / "Concepts81.txt"]
    file = next((path for path in candidates if path.exists()), candidates[0])
    if read_lines(file) != CLASSES:
        raise ValueError(f"{file} does not list the {len(CLASSES)} concepts of NUS-WIDE in alphabetical order")
    records: list[DatasetDict] = []
    for split in splits:
        part = split.capitalize()
        image_list = folder / "ImageList" / f"{part}Imagelist.txt"
        paths = _read_paths(image_list)
        check_unique(paths, image_list)
        labels: list[list[int]] = [[] for _ in paths]
        for k, concept in enumerate(CLASSES):
            file = folder / "Groundtruth" / "TrainTestLabels" / f"Labels_{concept}_{part}.txt"
            column = read_text(file).split()
            if len(column) != len(paths) or not set(column) <= {"0", "1"}:
                expected = f"expected 0 or 1 for each of the {len(paths)} images of {image_list}"
                raise ValueError(f"{file}: {expected}, got {len(column)} lines")
            for image_labels, flag in zip(labels, column):
                if flag == "1":
                    image_labels.append(k)
        records += [_record(folder / "Flickr", path, found, image_list) for path, found in zip(paths, labels)]
    check_unique((record["image_id"] for record in records), folder)
    return keep_labelled(records, f"{folder}, {' and '.join(splits)}")


def _read_paths(file: Path) -> list[str]:
    return [line.replace("\\", "/") for line in read_lines(file)]


def _record(image_root: Path, path: str, labels: list[int], source: str | Path) -> DatasetDict:
    """Return the dataset dict of an image that ``source`` lists."""
    return {"file_name": image_path(image_root, path, str(source)), "image_id": path, "labels": labels}


def _listed(folder: Path, split: str, records: list[DatasetDict]) -> list[DatasetDict]:
    """Return the labelled images listed in ``<folder>/<split>.txt``, in its order."""
    known = {record["image_id"]: record for record in records}
    paths = {name: _read_paths(folder / f"{name}.txt") for name in ("train", "test")}
    both = set(paths["train"]) & set(paths["test"])
    if both:
        raise ValueError(f"{folder}: {len(both)} images are in both lists, for example '{min(both)}'")
    unknown = [path for path in paths[split] if path not in known]
    if unknown:
        raise ValueError(
            f"{folder / split}.txt: {len(unknown)} images are not among the {len(known)} labelled images of ImageList, "
            f"the first is '{unknown[0]}'"
        )
    check_unique(paths[split], folder / f"{split}.txt")
    return [known[path] for path in paths[split]]


def load_nus_wide_csv(split: str) -> list[DatasetDict]:
    """Load ``nuswide/nus_wid_data.csv``, used by multi-label repositories.

    Its three columns, of any name, are: path relative to its folder, labels as ``['clouds', 'sky']``, and split
    ("train" or "val"). An invalid line raises a ValueError that names it.
    """
    file = Path(datasets_root()) / "nuswide" / "nus_wid_data.csv"
    (_, header), *rows = read_csv(file)
    if len(header) != 3:
        raise ValueError(f"{file}: expected three columns (path, labels, split), got {header}")
    records = [
        _record(file.parent, path, class_indices(_parse_list(labels, location), CLASSES, location), location)
        for location, (path, labels, part) in rows
        if part == split
    ]
    if not records:
        raise ValueError(f"{file}: no images of split '{split}'")
    check_unique((record["image_id"] for record in records), file)
    return keep_labelled(records, f"{file}, {split}")


def _parse_list(text: str, location: str) -> list[str]:
    try:
        labels = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        labels = None
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise ValueError(f"{location}: {reprlib.repr(text)} is not a list of labels like ['clouds', 'sky']")
    return labels


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
