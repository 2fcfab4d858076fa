"""Checks of datasets: of files on disk for tools/check_dataset.py, and of labels before a training."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import islice
from typing import NamedTuple

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from tabulate import tabulate
from tqdm import tqdm

from .build import get_dataset_dicts
from .class_counts import ClassCounts, count_classes, describe_counts
from .datasets.arrow_records import ArrowRecords
from .datasets.faults import SHOWN
from .datasets.image_paths import is_remote
from .image import ImageError, ImageFile
from .types import DatasetDict
from .workers import raise_if_cancelled, run_jobs

logger = logging.getLogger(__name__)

_IMAGES_PER_JOB = 64
_HASHED = 4096  # dataset dicts in memory at once
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
    read: list[tuple[str, Sequence[DatasetDict], ImageHashes]] = []
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
        read.append((name, records, hashes))
    return faults + (_find_duplicates(read) if read else [])


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
        positive = count_classes(records, len(classes), name).positives > 0
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


def _check_some_files(split: str, name: str, records: Sequence[DatasetDict], hint: str) -> None:
    """Look for some images, evenly spaced; FileNotFoundError if all are missing."""
    step = max(1, len(records) // _LOOKED_FOR)
    paths = [record["file_name"] for record in records[::step]]
    if not any(is_remote(path) or os.path.exists(path) for path in paths):
        some = "" if len(paths) == len(records) else f"{len(paths)} of "
        text = f"the {split} split, {name}: none of {some}its {len(records)} images exists, the first is {paths[0]}"
        raise FileNotFoundError(f"{text}: correct {hint}")


def describe(name: str, records: Sequence[DatasetDict]) -> str:
    """Format image counts, label counts and the split hash of a dataset."""
    classes = MetadataCatalog.get(name).thing_classes
    counts = _count_labels(name, records, len(classes))
    rows = [(k, label, counts.positives[k], counts.ignored[k]) for k, label in enumerate(classes)]
    table = tabulate(rows, headers=["index", "class", "images", "ignored in"], tablefmt="pipe")
    sizes = np.flatnonzero(counts.labels)
    total = int(np.arange(len(counts.labels)) @ counts.labels)
    return (
        f"{name}: {len(records)} images, {total} labels\n"
        f"labels per image: min {min(sizes, default=0)}, mean {total / max(1, len(records)):.2f}, "
        f"max {max(sizes, default=0)}; {counts.labels[0]} images have none\n"
        f"hash of the split: {split_hash(records, classes)}\n{table}"
    )


def _count_labels(name: str, records: Sequence[DatasetDict], num_classes: int) -> ClassCounts:
    """Count labels; those out of range, which ``check_records`` reports, are in the numbers of labels only."""
    if isinstance(records, ArrowRecords):
        return count_classes(records, num_classes, name)
    positive = Counter(k for record in records for k in record["labels"])
    ignored = Counter(k for record in records for k in record.get("ignore_labels", []))
    columns = [np.array([found[k] for k in range(num_classes)], np.int64) for found in (positive, ignored)]
    sizes = np.array([len(record["labels"]) for record in records], np.int64)
    return ClassCounts(columns[0], columns[1], len(records), np.bincount(sizes, minlength=1))


def split_hash(records: Sequence[DatasetDict], classes: Sequence[str]) -> str:
    """Hash image ids and labels (16 digits), independent of order and folder."""
    digest = hashlib.sha256(f"[{json.dumps(list(classes))}, [".encode())
    rows: Iterator[list]
    if isinstance(records, ArrowRecords):
        rows = (_hashed(records[i]) for i in map(int, records.sorted_rows()))
    else:
        rows = iter(sorted(_hashed(record) for record in records))
    separator = ""
    while part := list(islice(rows, _HASHED)):
        digest.update((separator + json.dumps(part)[1:-1]).encode())
        separator = ", "
    digest.update(b"]]")
    return digest.hexdigest()[:16]


def _hashed(record: DatasetDict) -> list:
    return [str(record["image_id"]), record["labels"], record.get("ignore_labels", [])]


def _with_file(name: str) -> str:
    """Return the name of a dataset, with the file of the user that lists its images."""
    arguments = MetadataCatalog.get(name).get("arguments", {}) if name in DatasetCatalog.list() else {}
    file = arguments.get("file", arguments.get("json_file"))
    return name if file is None else f"{name} ({file})"


def check_records(name: str, records: Sequence[DatasetDict], *, with_teacher: bool = False) -> list[Fault]:
    """Return the faults that can be found without reading any image."""
    metadata = MetadataCatalog.get(name)
    source = _with_file(name)
    faults, expected, classes = [], metadata.get("expected_images"), metadata.thing_classes
    if expected not in (None, len(records)):
        faults.append(Fault(f"{source}: {len(records)} images, expected {expected}"))
    if not isinstance(records, ArrowRecords):  # whose reader has checked ids and labels
        faults += _check_ids(source, records)
        if invalid := _check_labels(source, records, len(classes)):
            return faults + invalid
    counts = count_classes(records, len(classes), name)
    if not counts.positives.any():
        return [*faults, Fault(f"{source}: no image has a label, so that nothing can be learned or measured")]
    is_warning = len(classes) > 1 or not with_teacher
    return faults + [Fault(f"{source}: {text}", is_warning=is_warning) for text in describe_counts(counts, classes)]


def _check_ids(source: str, records: Sequence[DatasetDict]) -> list[Fault]:
    """Return duplicate image ids, and the faults of annotations."""
    ids = Counter(str(record["image_id"]) for record in records)
    repeated = f"{source}: image ids are not unique"
    faults = [Fault(repeated, f"{count} images have the id '{i}'") for i, count in ids.items() if count > 1]
    for record in records:
        faults += [Fault(f"{source}: {kind}", text, is_warning=True) for kind, text in record.get("faults", [])]
    return faults


def _check_labels(source: str, records: Sequence[DatasetDict], num_classes: int) -> list[Fault]:
    return [
        Fault(f"{source}: labels are not class indices", f"{record['file_name']} has {key} {wrong}")
        for record in records
        for key, indices in (("labels", record["labels"]), ("ignore_labels", record.get("ignore_labels", [])))
        if (wrong := [k for k in indices if k not in range(num_classes)])
    ]


class ImageHashes(NamedTuple):
    """Hashes of the N image files of a dataset.

    Attributes:
        digest: (N,) 16 bytes each, blake2b of the file.
        is_valid: (N,) bool; False for images that cannot be read or have another size.
    """

    digest: np.ndarray
    is_valid: np.ndarray


def read_images(name: str, records: Sequence[DatasetDict], num_workers: int) -> tuple[ImageHashes, list[Fault]]:
    """Decode every image; return the hashes of the files, and the errors."""
    hashes = ImageHashes(np.zeros(len(records), "V16"), np.zeros(len(records), bool))
    errors: list[Fault] = []
    starts = range(0, len(records), _IMAGES_PER_JOB)
    jobs = ((start, list(records[start : start + _IMAGES_PER_JOB])) for start in starts)
    finished = closing(run_jobs(_read_batch, jobs, num_workers))  # stops the workers on Ctrl-C
    with finished as batches, tqdm(total=len(records), unit="image", desc="reading") as progress:
        for start, digests, found in batches:
            rows = slice(start, start + len(digests))
            hashes.is_valid[rows] = [digest is not None for digest in digests]
            hashes.digest[rows] = [np.void(digest or bytes(16)) for digest in digests]
            errors += [Fault(f"{_with_file(name)}: {kind}", detail) for kind, detail in found]
            progress.update(len(digests))
    return hashes, sorted(errors)


def _read_batch(start: int, records: list[DatasetDict]) -> tuple[int, list[bytes | None], list[tuple[str, str]]]:
    """Return ``start``, a hash for each image, None if it cannot be used, and the errors."""
    hashes: list[bytes | None] = []
    errors = []
    for record in records:
        raise_if_cancelled()
        name, digest = record["file_name"], None
        try:
            image = ImageFile(name)
            image.pixels(min_size=1)  # decodes a JPEG at 1/8 of its size: reads all bytes at a fraction of the cost
        except ImageError as error:
            cause = error.__cause__
            if isinstance(cause, FileNotFoundError):
                errors.append(("images are missing (see dataset.image_root)", name))
            else:
                errors.append(("images are unreadable", f"{name}: {type(cause).__name__}: {cause}"))
        else:
            if "height" in record and image.shape != (record["height"], record["width"]):
                height, width = image.shape
                text = f"{name} is {width} x {height}, expected {record['width']} x {record['height']}"
                errors.append(("images have another size", text))
            else:
                digest = image.digest
        hashes.append(digest)
    return start, hashes, errors


def _find_duplicates(datasets: Sequence[tuple[str, Sequence[DatasetDict], ImageHashes]]) -> list[Fault]:
    """Return an error per image of a dataset that an earlier one has, and log the copies within each."""
    starts = np.cumsum([0, *(len(records) for _, records, _ in datasets)])
    rows = np.flatnonzero(np.concatenate([hashes.is_valid for *_, hashes in datasets]))

    def look_up(row: int) -> tuple[str, str]:
        position = int(np.searchsorted(starts, row, side="right")) - 1
        name, records, _ = datasets[position]
        return name, records[row - int(starts[position])]["file_name"]

    errors, copies = [], Counter[str]()
    for row, first in _find_equal([hashes.digest for *_, hashes in datasets], rows):
        (name, path), (first_name, first_path) = look_up(row), look_up(first)
        if first_name != name:
            errors.append(Fault(f"{_with_file(name)}: images are also in {first_name}", f"{path} as {first_path}"))
        elif path != first_path:
            copies[name] += 1
    for name, count in copies.items():
        logger.info("%s: %d images are copies of others in it", name, count)
    return errors


def _find_equal(digests: Sequence[np.ndarray], rows: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield each of the chosen rows that equals an earlier one, with the first such row.

    Args:
        digests: (N1,), (N2,), ... 16 bytes each, numbered on; halves of them are compared first, to save memory.
        rows: increasing numbers.
    """
    halves = np.concatenate([digest.view(np.uint64)[::2] for digest in digests])[rows]
    ordered = np.sort(halves)
    repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    del ordered
    starts = np.cumsum([0, *map(len, digests)])
    first: dict[bytes, int] = {}
    for row in rows[np.isin(halves, repeated)].tolist():
        part = int(np.searchsorted(starts, row, side="right")) - 1
        earlier = first.setdefault(digests[part][row - int(starts[part])].tobytes(), row)
        if earlier != row:
            yield row, earlier
