"""Checks of datasets on disk: counts, corrupt files, images in two splits."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from contextlib import closing

import numpy as np
from detectron2.data import MetadataCatalog
from tabulate import tabulate
from tqdm import tqdm

from .build import get_dataset_dicts
from .image import ImageError, ImageFile
from .types import DatasetDict
from .workers import raise_if_cancelled, run_jobs

logger = logging.getLogger(__name__)

_IMAGES_PER_JOB = 64


def check_datasets(names: list[str], num_workers: int) -> list[str]:
    """Log a summary of each dataset and return one sentence per error.

    Errors are: a dataset that cannot be loaded or has an unexpected number of images, a duplicate image id, a label
    out of range, an image file that is missing, unreadable or of another size than its dataset dict, and an image file
    (by its bytes) that is in two of the datasets.

    Args:
        names: registered datasets.
        num_workers: processes that read images; 0 reads them in this one.
    """
    errors: list[str] = []
    first_seen: dict[bytes, tuple[str, str]] = {}  # hash of a file -> dataset and path where it was first seen
    for name in names:
        try:
            records = get_dataset_dicts(name)
        except (OSError, ValueError) as error:
            errors.append(f"{name} cannot be loaded: {error}")
            continue
        logger.info("%s", describe(name, records))
        errors += check_records(name, records)
        hashes, image_errors = read_images(records, num_workers)
        errors += [f"{name}: {error}" for error in image_errors]
        errors += _find_duplicates(name, hashes, first_seen)
    return errors


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


def check_records(name: str, records: list[DatasetDict]) -> list[str]:
    """Return the errors that can be found without reading any image."""
    metadata = MetadataCatalog.get(name)
    errors, expected, num_classes = [], metadata.get("expected_images"), len(metadata.thing_classes)
    if expected not in (None, len(records)):
        errors.append(f"{name}: {len(records)} images, expected {expected}")
    ids = Counter(str(record["image_id"]) for record in records)
    errors += [f"{name}: {count} images have the id '{image_id}'" for image_id, count in ids.items() if count > 1]
    for record in records:
        invalid = [k for k in [*record["labels"], *record.get("ignore_labels", [])] if not 0 <= k < num_classes]
        if invalid:
            errors.append(f"{name}: {record['file_name']} has labels {invalid}, which are not class indices")
    return errors


def read_images(records: list[DatasetDict], num_workers: int) -> tuple[dict[str, bytes], list[str]]:
    """Decode every image; return hashes of the valid files by path, and the errors of the others."""
    hashes: dict[str, bytes] = {}
    errors: list[str] = []
    jobs = [(records[i : i + _IMAGES_PER_JOB],) for i in range(0, len(records), _IMAGES_PER_JOB)]
    finished = closing(run_jobs(_read_batch, jobs, num_workers))  # stops the workers on Ctrl-C
    with finished as batches, tqdm(total=len(records), unit="image", desc="reading") as progress:
        for batch_hashes, batch_errors in batches:
            hashes.update(batch_hashes)
            errors += batch_errors
            progress.update(len(batch_hashes) + len(batch_errors))
    return hashes, sorted(errors)


def _read_batch(records: list[DatasetDict]) -> tuple[dict[str, bytes], list[str]]:
    hashes, errors = {}, []
    for record in records:
        raise_if_cancelled()
        name = record["file_name"]
        try:
            image = ImageFile(name)
            image.pixels(min_size=1)  # decodes a JPEG at 1/8 of its size: reads all bytes at a fraction of the cost
        except ImageError as error:
            cause = error.__cause__
            missing = isinstance(cause, FileNotFoundError)
            errors.append(f"{name} is missing" if missing else f"{name} is unreadable: {type(cause).__name__}: {cause}")
            continue
        if "height" in record and image.shape != (record["height"], record["width"]):
            height, width = image.shape
            errors.append(f"{name} is {width} x {height}, expected {record['width']} x {record['height']}")
        else:
            hashes[name] = image.digest
    return hashes, errors


def _find_duplicates(name: str, hashes: dict[str, bytes], first_seen: dict[bytes, tuple[str, str]]) -> list[str]:
    """Return an error per image of an earlier dataset, log copies, and extend ``first_seen``."""
    errors, copies = [], 0
    for path, digest in hashes.items():
        first_dataset, first_path = first_seen.setdefault(digest, (name, path))
        if first_dataset != name:
            errors.append(f"{path} of {name} is also in {first_dataset}, as {first_path}")
        elif first_path != path:
            copies += 1
    if copies:
        logger.info("%s: %d images are copies of others in it", name, copies)
    return errors
