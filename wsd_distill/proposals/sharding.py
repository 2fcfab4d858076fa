"""The folder of finished parts by which an interrupted run goes on, and how it becomes one proposal store.

The shards of a run share that folder, also over a network: part i belongs to shard i modulo their number, and
whoever finds every part there puts the store together. Locks are ``flock``'s, which Linux passes on over NFS.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TextIO

from ..data.proposal_store import ProposalStore, ProposalStoreWriter, StoreMetadata
from ..io import file_lock

logger = logging.getLogger(__name__)

IMAGE_FINGERPRINT = "pictures"  # key of an identity
SIZES_ASKED = 100


@dataclass(frozen=True)
class Shard:
    """The ``number``-th, from 1, of ``count`` processes that make one store together."""

    number: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """
        Args:
            text: such as ``2/8``.

        Raises:
            ValueError: no such shard.
        """
        found = re.fullmatch(r"(\d+)/(\d+)", text)
        number, count = map(int, found.groups()) if found else (0, 0)
        if not 1 <= number <= count:
            raise ValueError(f"{text} is no shard: the second of eight is 2/8")
        return cls(number, count)

    def takes(self, part: int) -> bool:
        return part % self.count == self.number - 1


def fingerprint(metadata: StoreMetadata, image_ids: Iterable[str]) -> dict:
    """What two runs have to agree on for one to take over the other's work."""
    return {
        "dataset_name": metadata.dataset_name,
        "generator": metadata.generator,
        **metadata.parameters,
        "image ids": _hash(image_ids),
        IMAGE_FINGERPRINT: metadata.pictures,
    }


def image_fingerprint(files: list[str]) -> str:
    """Hash of the sizes in bytes of some files, the same wherever they are.

    It tells other pictures of the same ids, not a single one that was exchanged: of COCO's 123,000 files, to ask for
    every size takes two minutes where a call takes a millisecond.
    """
    return _hash(map(_size, files[:: -(-len(files) // SIZES_ASKED) or 1]))


def _size(file: str) -> str:
    try:
        return str(os.path.getsize(file))
    except OSError:
        return "none"


def _hash(words: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:12]


def describe_mismatch(found: dict, wanted: dict) -> str:
    """In words; empty where the two identities agree."""
    keys = [key for key in {**found, **wanted} if found.get(key) != wanted.get(key)]
    words = [f"{key} {found.get(key)}, not {wanted.get(key)}" for key in keys if key != IMAGE_FINGERPRINT]
    if IMAGE_FINGERPRINT in keys:
        older = "made by an older version, that did not note of which pictures"
        words.append("other pictures, by the sizes of their files" if found.get(IMAGE_FINGERPRINT) else older)
    return "; ".join(words)


@contextmanager
def claim_shard(folder: str, wanted: dict, shard: Shard) -> Iterator[bool]:
    """Mark a folder of parts as this run's, or make sure that it is, and keep others of the same shard out.

    Yields False where another shard removed the folder meanwhile, having made the store.

    Raises:
        FileExistsError: its parts are of another identity, or of another number of shards.
        RuntimeError: another process is at work on the same shard.
    """
    os.makedirs(folder, exist_ok=True)
    with file_lock(os.path.join(folder, f"shard{shard.number}.lock")):
        with file_lock(os.path.join(folder, "run.json"), wait=True) as file:
            _agree(file, {**wanted, "shards": shard.count}, folder)
        yield os.path.isdir(folder)


def merge_when_complete(
    folder: str, parts: list[str], output: str, metadata: StoreMetadata, images: int
) -> ProposalStore | None:
    """The store, put together here or by a shard that was faster; None while a part is missing.

    Raises:
        RuntimeError: every image failed.
    """
    try:
        with file_lock(os.path.join(folder, "run.json"), wait=True):
            missing = {os.path.basename(part) for part in parts}.difference(os.listdir(folder))
            if not missing:
                return _merge(folder, parts, output, metadata, images)
    except FileNotFoundError:  # the folder: a faster shard removed it
        return ProposalStore(output)
    logger.info(
        "%d of %d parts are still to come from other shards, the last of which makes %s. "
        "Is none at work any more, start those that were cut short again, or any one if none was.",
        len(missing),
        len(parts),
        output,
    )
    return None


def _agree(file: TextIO, wanted: dict, folder: str) -> None:
    file.seek(0)
    content = file.read()
    if not content:
        file.write(json.dumps(wanted))
        return
    other = describe_mismatch(json.loads(content), wanted)
    if other:
        raise FileExistsError(
            f"{folder} has parts of a run with other settings ({other}): delete that folder or give another --output"
        )


def _merge(folder: str, parts: list[str], output: str, metadata: StoreMetadata, images: int) -> ProposalStore:
    """Stream the parts into one store, one part open at a time, and remove their folder."""
    failures: dict[str, str] = {}
    dropped = 0
    for part in parts:
        made = ProposalStore(part).metadata
        failures.update(made.failures)
        dropped += made.dropped_boxes
    if images and len(failures) == images:
        shutil.rmtree(folder)
        first = next(iter(failures.values()))
        raise RuntimeError(f"not one image got proposals, beginning with {first}")
    with ProposalStoreWriter(output, replace(metadata, failures=failures, dropped_boxes=dropped)) as writer:
        for part in parts:
            for image_id, (boxes, scores) in ProposalStore(part).items():
                writer.write(image_id, boxes, scores)
    for part in parts:  # before what says whose they are
        os.remove(part)
    shutil.rmtree(folder)
    return ProposalStore(output)
