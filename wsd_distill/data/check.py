"""Is a dataset on disk what it should be? Counts, a hash of the split, broken files, images in two splits."""

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
from .workers import raise_if_cancelled, run_jobs

logger = logging.getLogger(__name__)

_IMAGES_PER_JOB = 64


def check_datasets(names: list[str], num_workers: int) -> list[str]:
    """Log a report on each dataset and return what is wrong, a sentence for each fault.

    A fault is a dataset that cannot be loaded or has not as many images as it should, two images of one id, a
    label out of range, an image file that is missing, unreadable or of another size, and an image that is in two of
    the datasets: two files are one image where their bytes are the same.

    Args:
        names: registered datasets.
        num_workers: processes that read images; 0 reads in this one.
    """
    faults: list[str] = []
    first_seen: dict[bytes, tuple[str, str]] = {}  # hash of a file -> dataset and file that had it first
    for name in names:
        try:
            records = get_dataset_dicts(name)
        except (OSError, ValueError) as error:
            faults.append(f"{name} cannot be loaded: {error}")
            continue
        logger.info("%s", describe(name, records))
        faults += check_records(name, records)
        hashes, broken = read_images(records, num_workers)
        faults += [f"{name}: {fault}" for fault in broken]
        faults += _find_duplicates(name, hashes, first_seen)
    return faults


def describe(name: str, records: list[dict]) -> str:
    """Counts and hash of a dataset, as text."""
    classes = MetadataCatalog.get(name).thing_classes
    counts = [len(record["labels"]) for record in records] or [0]
    positive = Counter(k for record in records for k in record["labels"])
    ignored = Counter(k for record in records for k in record.get("ignore_labels", []))
    rows = [(k, label, positive[k], ignored[k]) for k, label in enumerate(classes)]
    return "\n".join(
        [
            f"{name}: {len(records)} images, {sum(counts)} labels",
            f"labels per image: min {min(counts)}, mean {np.mean(counts):.2f}, max {max(counts)}; "
            f"{sum(not count for count in counts)} images have none",
            f"hash of the split: {split_hash(records, classes)}",
            tabulate(rows, headers=["index", "class", "images", "ignored in"], tablefmt="pipe"),
        ]
    )


def split_hash(records: list[dict], classes: list[str]) -> str:
    """16 hexadecimal digits that say which images have which labels, whatever their order and their folder."""
    rows = sorted([str(r["image_id"]), r["labels"], r.get("ignore_labels", [])] for r in records)
    return hashlib.sha256(json.dumps([list(classes), rows]).encode()).hexdigest()[:16]


def check_records(name: str, records: list[dict]) -> list[str]:
    """Faults that show without a look at any image."""
    metadata = MetadataCatalog.get(name)
    faults, expected = [], metadata.get("expected_images")
    if expected is not None and len(records) != expected:
        faults.append(f"{name}: {len(records)} images, not {expected}")
    ids = Counter(str(record["image_id"]) for record in records)
    faults += [f"{name}: {count} images have the id '{image_id}'" for image_id, count in ids.items() if count > 1]
    for record in records:
        wrong = [
            k for k in [*record["labels"], *record.get("ignore_labels", [])] if not 0 <= k < len(metadata.thing_classes)
        ]
        if wrong:
            faults.append(f"{name}: {record['file_name']} has labels {wrong}, which are no class indices")
    return faults


def read_images(records: list[dict], num_workers: int) -> tuple[dict[str, bytes], list[str]]:
    """Read every image to its end, with a progress bar.

    Returns:
        Hash of each file that is fine, by its name, and the faults of the others.
    """
    hashes, faults = {}, []
    jobs = [(records[i : i + _IMAGES_PER_JOB],) for i in range(0, len(records), _IMAGES_PER_JOB)]
    with tqdm(total=len(records), unit="image", desc="reading") as progress:
        with closing(run_jobs(_read_some, jobs, num_workers)) as finished:  # stops workers on Ctrl-C
            for part_hashes, part_faults in finished:
                hashes.update(part_hashes)
                faults += part_faults
                progress.update(len(part_hashes) + len(part_faults))
    return hashes, sorted(faults)


def _read_some(records: list[dict]) -> tuple[dict[str, bytes], list[str]]:
    hashes, faults = {}, []
    for record in records:
        raise_if_cancelled()
        name = record["file_name"]
        try:
            image = ImageFile(name)
            image.pixels(at_least=1)  # a JPEG at an eighth of its size: all bytes are read, most work is spared
        except ImageError as error:
            cause = error.__cause__
            missing = isinstance(cause, FileNotFoundError)
            faults.append(f"{name} is missing" if missing else f"{name} is unreadable: {type(cause).__name__}: {cause}")
            continue
        height, width = image.shape
        if "height" in record and image.shape != (record["height"], record["width"]):
            faults.append(f"{name} is {width} x {height}, not {record['width']} x {record['height']}")
        else:
            hashes[name] = image.digest
    return hashes, faults


def _find_duplicates(name: str, hashes: dict[str, bytes], first_seen: dict[bytes, tuple[str, str]]) -> list[str]:
    """Images that an earlier dataset has too; ``owners`` learns the others. Repetitions in one are only counted."""
    faults, repeated = [], 0
    for file, digest in hashes.items():
        owner, other = first_seen.setdefault(digest, (name, file))
        if owner != name:
            faults.append(f"{file} of {name} is in {owner} too, as {other}")
        repeated += owner == name and other != file
    if repeated:
        logger.info("%s: %d images are copies of others in it", name, repeated)
    return faults
