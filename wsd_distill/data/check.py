"""Checks of datasets: of files on disk for tools/check_dataset.py, and of labels before a training."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import NamedTuple

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from tabulate import tabulate
from tqdm import tqdm

from .build import get_dataset_dicts
from .class_counts import describe_classes, label_matrix
from .datasets.image_paths import is_remote
from .image import ImageError, ImageFile
from .types import DatasetDict
from .workers import raise_if_cancelled, run_jobs

logger = logging.getLogger(__name__)

SHOWN = 5  # faults of one kind that are printed
_IMAGES_PER_JOB = 64
_LOOKED_FOR = 20  # images of a split that are looked for before a training


class Fault(NamedTuple):
    """A fault of a dataset."""

    kind: str  # with the dataset; faults of one kind are counted
    detail: str = ""  # the file, image or annotation
    is_warning: bool = False


def check_datasets(names: list[str], num_workers: int, *, with_teacher: bool = False) -> list[Fault]:
    """Log a summary of each dataset and return its faults.

    Errors are: a dataset that cannot be loaded, has no label or an unexpected number of images, a duplicate image id, a
    label out of range, an image file that is missing, unreadable or of another size than its dataset dict, and an image
    file (by its bytes) that is in two of the datasets. Warnings are classes that cannot be measured, and annotations
    that are left out or read in another way. One class is an error ``with_teacher``, otherwise a warning. A dataset
    that is checked against the classes of a file that was refused is not an error of its own.

    Args:
        names: registered datasets.
        num_workers: processes that read images; 0 reads them in this one.
        with_teacher: T-WDet takes part in the training.
    """
    faults: list[Fault] = []
    refused: list[tuple[str, list[str]]] = []  # datasets whose files are invalid, with their classes
    first_seen: dict[bytes, tuple[str, str]] = {}  # hash of a file -> dataset and path where it was first seen
    for name in names:
        try:
            records = get_dataset_dicts(name)
        except (OSError, ValueError) as error:
            classes = MetadataCatalog.get(name).get("arguments", {}).get("classes")
            if isinstance(error, ValueError) and classes is not None:
                refused.append((name, classes))
                first = next(other for other, others in refused if others == classes)
                if first != name:
                    logger.info("%s cannot be checked before %s is corrected", name, first)
                    continue
            faults.append(Fault(f"{name} cannot be loaded: {error}"))
            continue
        logger.info("%s", describe(name, records))
        faults += check_records(name, records, with_teacher=with_teacher)
        hashes, image_faults = read_images(name, records, num_workers)
        faults += image_faults
        faults += _find_duplicates(name, hashes, first_seen)
    return faults


def group_faults(faults: Sequence[Fault]) -> Iterator[str]:
    """Yield a line per kind of fault: the count and the first ``SHOWN`` details."""
    kinds: dict[str, list[str]] = {}
    for fault in faults:
        kinds.setdefault(fault.kind, []).append(fault.detail)
    for kind, details in kinds.items():
        if details == [""]:
            yield kind
            continue
        rest = f"; and {len(details) - SHOWN} more" if len(details) > SHOWN else ""
        yield f"{kind} ({len(details)}): {'; '.join(details[:SHOWN])}{rest}"


def check_splits(splits: dict[str, str], image_hint: str = "dataset.image_root") -> None:
    """Check, without reading an image, that splits can be trained on and evaluated.

    Args:
        splits: "train", "val" and "test" -> registered dataset; equal ones are checked once.
        image_hint: setting that locates the images.

    Raises:
        ValueError: a split has no positive label, or a class that the training images do not have; names both.
        FileNotFoundError: of the images of a split that are looked for none exists.
    """
    missing: dict[str, list[str]] = {}  # classes by split
    trained: np.ndarray | None = None
    for split, name in splits.items():
        if name in list(splits.values())[: list(splits).index(split)]:
            continue
        records, classes = get_dataset_dicts(name), MetadataCatalog.get(name).thing_classes
        positive = (label_matrix(records, len(classes), name) == 1).any(axis=0)
        if not positive.any():
            text = f"the {split} split, {name}, has no positive label in its {len(records)} images"
            raise ValueError(f"{text}: add images with labels, or correct dataset.files.{split}")
        trained = positive if split == "train" else trained
        if trained is not None and len(trained) == len(positive) and (positive & ~trained).any():
            missing[split] = [classes[k] for k in np.flatnonzero(positive & ~trained).tolist()]
        _check_some_files(split, name, records, image_hint)
    if missing:
        found = "; ".join(f"{split} has {', '.join(names)}" for split, names in missing.items())
        text = "add training images of these classes, or remove the classes from the lists and from dataset.classes"
        raise ValueError(f"no training image has classes that other splits have ({found}): {text}")


def _check_some_files(split: str, name: str, records: list[DatasetDict], hint: str) -> None:
    """Look for some images, evenly spaced; FileNotFoundError if all are missing."""
    step = max(1, len(records) // _LOOKED_FOR)
    paths = [record["file_name"] for record in records[::step]]
    if not any(is_remote(path) or os.path.exists(path) for path in paths):
        some = "" if len(paths) == len(records) else f"{len(paths)} of "
        text = f"the {split} split, {name}: none of {some}its {len(records)} images exists, the first is {paths[0]}"
        raise FileNotFoundError(f"{text}: correct {hint}")


def describe(name: str, records: list[DatasetDict]) -> str:
    """Format image counts, label counts and the split hash of a dataset."""
    classes = MetadataCatalog.get(name).thing_classes
    counts = [len(record["labels"]) for record in records] or [0]
    positive = Counter(k for record in records for k in record["labels"])
    ignored = Counter(k for record in records for k in record.get("ignore_labels", []))
    rows = [(k, label, positive[k], ignored[k]) for k, label in enumerate(classes)]
    table = tabulate(rows, headers=["index", "class", "images", "ignored in"], tablefmt="pipe")
    return (
        f"{name}: {len(records)} images, {sum(counts)} labels\n"
        f"labels per image: min {min(counts)}, mean {np.mean(counts):.2f}, max {max(counts)}; "
        f"{counts.count(0)} images have none\n"
        f"hash of the split: {split_hash(records, classes)}\n{table}"
    )


def split_hash(records: list[DatasetDict], classes: list[str]) -> str:
    """Hash image ids and labels (16 digits), independent of order and folder."""
    rows = sorted([str(r["image_id"]), r["labels"], r.get("ignore_labels", [])] for r in records)
    return hashlib.sha256(json.dumps([list(classes), rows]).encode()).hexdigest()[:16]


def _with_file(name: str) -> str:
    """Return the name of a dataset, with the file of the user that lists its images."""
    arguments = MetadataCatalog.get(name).get("arguments", {}) if name in DatasetCatalog.list() else {}
    file = arguments.get("file", arguments.get("json_file"))
    return name if file is None else f"{name} ({file})"


def check_records(name: str, records: list[DatasetDict], *, with_teacher: bool = False) -> list[Fault]:
    """Return the faults that can be found without reading any image."""
    metadata = MetadataCatalog.get(name)
    source = _with_file(name)
    faults, expected, classes = [], metadata.get("expected_images"), metadata.thing_classes
    if expected not in (None, len(records)):
        faults.append(Fault(f"{source}: {len(records)} images, expected {expected}"))
    ids = Counter(str(record["image_id"]) for record in records)
    repeated = f"{source}: image ids are not unique"
    faults += [Fault(repeated, f"{count} images have the id '{i}'") for i, count in ids.items() if count > 1]
    for record in records:
        faults += [Fault(f"{source}: {kind}", text, is_warning=True) for kind, text in record.get("faults", [])]
    invalid = [
        Fault(f"{source}: labels are not class indices", f"{record['file_name']} has {key} {wrong}")
        for record in records
        for key, indices in (("labels", record["labels"]), ("ignore_labels", record.get("ignore_labels", [])))
        if (wrong := [k for k in indices if k not in range(len(classes))])
    ]
    if invalid:
        return faults + invalid
    if not any(record["labels"] for record in records):
        return [*faults, Fault(f"{source}: no image has a label, so that nothing can be learned or measured")]
    problems = describe_classes(label_matrix(records, len(classes), name), classes)
    is_warning = len(classes) > 1 or not with_teacher
    return faults + [Fault(f"{source}: {text}", is_warning=is_warning) for text in problems]


def read_images(name: str, records: list[DatasetDict], num_workers: int) -> tuple[dict[str, bytes], list[Fault]]:
    """Decode every image; return hashes of the valid files by path, and the errors of the others."""
    hashes: dict[str, bytes] = {}
    errors: list[Fault] = []
    jobs = [(records[i : i + _IMAGES_PER_JOB],) for i in range(0, len(records), _IMAGES_PER_JOB)]
    finished = closing(run_jobs(_read_batch, jobs, num_workers))  # stops the workers on Ctrl-C
    with finished as batches, tqdm(total=len(records), unit="image", desc="reading") as progress:
        for batch_hashes, batch_errors in batches:
            hashes.update(batch_hashes)
            errors += [Fault(f"{_with_file(name)}: {kind}", detail) for kind, detail in batch_errors]
            progress.update(len(batch_hashes) + len(batch_errors))
    return hashes, sorted(errors)


def _read_batch(records: list[DatasetDict]) -> tuple[dict[str, bytes], list[tuple[str, str]]]:
    hashes, errors = {}, []
    for record in records:
        raise_if_cancelled()
        name = record["file_name"]
        try:
            image = ImageFile(name)
            image.pixels(min_size=1)  # decodes a JPEG at 1/8 of its size: reads all bytes at a fraction of the cost
        except ImageError as error:
            cause = error.__cause__
            if isinstance(cause, FileNotFoundError):
                errors.append(("images are missing (see dataset.image_root)", name))
            else:
                errors.append(("images are unreadable", f"{name}: {type(cause).__name__}: {cause}"))
            continue
        if "height" in record and image.shape != (record["height"], record["width"]):
            height, width = image.shape
            text = f"{name} is {width} x {height}, expected {record['width']} x {record['height']}"
            errors.append(("images have another size", text))
        else:
            hashes[name] = image.digest
    return hashes, errors


def _find_duplicates(name: str, hashes: dict[str, bytes], first_seen: dict[bytes, tuple[str, str]]) -> list[Fault]:
    """Return an error per image of an earlier dataset, log copies, and extend ``first_seen``."""
    errors, copies = [], 0
    for path, digest in hashes.items():
        first_dataset, first_path = first_seen.setdefault(digest, (name, path))
        if first_dataset != name:
            errors.append(Fault(f"{_with_file(name)}: images are also in {first_dataset}", f"{path} as {first_path}"))
        elif first_path != path:
            copies += 1
    if copies:
        logger.info("%s: %d images are copies of others in it", name, copies)
    return errors
