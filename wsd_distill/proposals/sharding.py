"""Parts of an unfinished proposal store: resuming, sharding, merging.

All shards of a run share a folder of parts, also over a network. Part i belongs to shard i modulo their number; the
shard that finds all parts merges them. Locks are ``flock``, which Linux supports over NFS.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from ..data.proposal_store import ProposalStore, ProposalStoreWriter, StoreMetadata
from ..io import file_lock

logger = logging.getLogger(__name__)

IMAGE_FINGERPRINT = "pictures"  # key in the fingerprint of a run; part of the format of run.json


@dataclass(frozen=True)
class Shard:
    """Share ``number`` (from 1) of ``count`` processes that create one store together."""

    number: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Parse text such as "2/8"; raise ValueError for anything else."""
        found = re.fullmatch(r"(\d+)/(\d+)", text)
        number, count = map(int, found.groups()) if found else (0, 0)
        if not 1 <= number <= count:
            raise ValueError(f"{text} is not a shard: write 2/8 for the second of eight")
        return cls(number, count)


def fingerprint(metadata: StoreMetadata, image_ids: Iterable[str]) -> dict:
    """Return what must be equal for a run to reuse another run's results."""
    return {
        "dataset_name": metadata.dataset_name,
        "generator": metadata.generator,
        **metadata.parameters,
        "image ids": _hash(image_ids),
        IMAGE_FINGERPRINT: metadata.image_fingerprint,
    }


def image_fingerprint(files: list[str]) -> str:
    """Hash the sizes in bytes of at most 100 files, independent of their folder.

    This detects other images with the same ids, but not a single replaced file: reading the size of all 123,000 files
    of COCO takes two minutes on a file system with 1 ms per call.
    """

    def size(file: str) -> str:
        try:
            return str(os.path.getsize(file))
        except OSError:
            return "none"

    return _hash(map(size, files[:: math.ceil(len(files) / 100) or 1]))


def _hash(words: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:12]


def describe_mismatch(found: dict, expected: dict) -> str:
    """Describe the differences of two fingerprints; empty if they are equal."""
    differences = []
    for key in {**found, **expected}:
        before, now = found.get(key), expected.get(key)
        if before != now and key != IMAGE_FINGERPRINT:
            differences.append(f"{key} is {before}, expected {now}")
        elif before != now:
            unknown = "created by an older version without a record of the image files"
            differences.append("other images, by the sizes of their files" if before else unknown)
    return "; ".join(differences)


@contextmanager
def claim_shard(folder: str, expected: dict, shard: Shard) -> Iterator[bool]:
    """Lock a shard of a folder of parts; yield whether the folder still exists.

    Another shard may have merged the parts and removed it meanwhile. A new folder gets the ``expected`` fingerprint, an
    existing one must have it.

    Raises:
        FileExistsError: the parts belong to another run, or to another number of shards.
        RuntimeError: another process is processing the same shard.
    """
    os.makedirs(folder, exist_ok=True)
    with file_lock(os.path.join(folder, f"shard{shard.number}.lock")):
        with file_lock(os.path.join(folder, "run.json"), wait=True) as file:
            expected = {**expected, "shards": shard.count}
            file.seek(0)
            content = file.read()
            if not content:
                file.write(json.dumps(expected))
            elif mismatch := describe_mismatch(json.loads(content), expected):
                settings = f"parts of a run with other settings ({mismatch})"
                raise FileExistsError(f"{folder} has {settings}: delete that folder or use another --output")
        yield os.path.isdir(folder)


def merge_when_complete(
    folder: str, parts: list[str], output: str, metadata: StoreMetadata, images: int
) -> ProposalStore | None:
    """Merge the parts into a store, unless another shard has merged them.

    Returns:
        The store, or None if parts of other shards are missing.

    Raises:
        RuntimeError: every image failed.
    """
    try:
        with file_lock(os.path.join(folder, "run.json"), wait=True):
            missing = {os.path.basename(part) for part in parts}.difference(os.listdir(folder))
            if not missing:
                return _merge(folder, parts, output, metadata, images)
    except FileNotFoundError:  # the folder: another shard has merged the parts
        return ProposalStore(output)
    logger.info(
        "%d of %d parts are missing; the last shard to finish creates %s. If no other shard is running, restart those "
        "that were interrupted, or any one if all have finished.",
        len(missing),
        len(parts),
        output,
    )
    return None


def _merge(folder: str, parts: list[str], output: str, metadata: StoreMetadata, images: int) -> ProposalStore:
    """Stream the parts into one store, one at a time, and remove their folder."""
    failures: dict[str, str] = {}
    dropped = 0
    for part in parts:
        part_metadata = ProposalStore(part).metadata
        failures.update(part_metadata.failures)
        dropped += part_metadata.dropped_boxes
    if images and len(failures) == images:
        shutil.rmtree(folder)
        raise RuntimeError(f"every image failed, the first with {next(iter(failures.values()))}")
    with ProposalStoreWriter(output, replace(metadata, failures=failures, dropped_boxes=dropped)) as writer:
        for part in parts:
            for image_id, (boxes, scores) in ProposalStore(part).items():
                writer.write(image_id, boxes, scores)
    for part in parts:  # before run.json, so that no parts are left without their fingerprint
        os.remove(part)
    shutil.rmtree(folder)
    return ProposalStore(output)
