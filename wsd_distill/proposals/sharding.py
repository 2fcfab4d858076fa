"""Parts of an unfinished proposal store: resuming, sharding, merging.

All shards of a run share a folder of parts, also over a network. Part i belongs to shard i modulo their number; the
shard that finds all parts merges them. Locks are ``flock``, which Linux supports over NFS.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TextIO

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
            unknown = "created without a record of the image files"
            differences.append("other images, by the sizes of their files" if before else unknown)
    return "; ".join(differences)


def file_version(path: str) -> tuple[int, int] | None:
    """Return what changes when a file is replaced; None if there is no file."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns


@contextmanager
def claim_shard(
    folder: str, expected: dict, shard: Shard, is_done: Callable[[], bool], *, discard: bool = False
) -> Iterator[bool]:
    """Lock a shard of a folder of parts; yield whether there is work to do.

    A second process with the same shard waits for the first. A new folder gets the ``expected`` fingerprint, an
    existing one must have it.

    Args:
        is_done: returns whether another process has created the store meanwhile.
        discard: remove parts with another fingerprint.

    Raises:
        FileExistsError: the parts belong to another run, or to another number of shards, and with ``discard`` a running
            process holds them.
    """
    expected = {**expected, "shards": shard.count}
    if discard:
        _discard_others(folder, expected)
    with _lock_file(folder, f"shard{shard.number}.lock"):
        if is_done():
            _remove_unused(folder)
            yield False
            return
        with file_lock(os.path.join(folder, "run.json"), wait=True) as file:
            mismatch = _compare_run(file, expected)
            if mismatch:
                raise FileExistsError(f"{folder} has {mismatch}: delete that folder or discard them with --overwrite")
            if mismatch is None:
                file.write(json.dumps(expected))
        yield not is_done()  # another shard may have merged the parts while this one waited for run.json


def _compare_run(file: TextIO, expected: dict) -> str | None:
    """Describe how run.json differs from ``expected``: "" if it does not, None if it is empty."""
    file.seek(0)
    content = file.read()
    if not content:
        return None
    try:
        mismatch = describe_mismatch(dict(json.loads(content)), expected)
    except (ValueError, TypeError, RecursionError) as error:
        return f"parts of a run whose settings are damaged (run.json: {error})"
    return mismatch and f"parts of a run with other settings ({mismatch})"


def _discard_others(folder: str, expected: dict) -> None:
    """Remove the parts of a run that is not as ``expected``; FileExistsError if a running process holds a shard.

    This comes before the lock of the own shard: of several shards that start together, the first removes the parts.
    """
    if not os.path.exists(os.path.join(folder, "run.json")):
        return
    with _lock_file(folder, "run.json") as file:
        mismatch = _compare_run(file, expected)
        if not mismatch:
            return
        names = os.listdir(folder)
        if any(_is_held(os.path.join(folder, name)) for name in names if re.fullmatch(r"shard\d+\.lock", name)):
            raise FileExistsError(f"{folder} has {mismatch}, and a running process makes them: wait for it or stop it")
        logger.warning("%s has %s: they are discarded", folder, mismatch)
        for name in names:
            if re.fullmatch(r"\d+\.arrow", name):
                os.remove(os.path.join(folder, name))
        file.truncate(0)
        file.write(json.dumps(expected))


def _is_held(path: str) -> bool:
    with open(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@contextmanager
def _lock_file(folder: str, name: str) -> Iterator[TextIO]:
    """Hold a lock in a folder that another process may remove, with the lock file, while this one waits."""
    path = os.path.join(folder, name)
    while True:
        os.makedirs(folder, exist_ok=True)
        with ExitStack() as stack:
            try:
                file = _wait_for_lock(stack, path)
            except FileNotFoundError:
                continue
            if os.path.exists(path) and os.path.samestat(os.stat(path), os.fstat(file.fileno())):
                stack = stack.pop_all()
                break
    with stack:
        yield file


def _wait_for_lock(stack: ExitStack, path: str) -> TextIO:
    try:
        return stack.enter_context(file_lock(path))
    except RuntimeError:
        logger.warning("another process is working on the same parts: waiting for it (%s)", path)
        return stack.enter_context(file_lock(path, wait=True))


def _remove_unused(folder: str) -> None:
    """Remove a folder that contains only the lock file of this process."""
    with suppress(OSError):
        names = os.listdir(folder)
        if len(names) == 1:
            os.remove(os.path.join(folder, names[0]))
            os.rmdir(folder)


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
        shutil.rmtree(folder, ignore_errors=True)
        raise RuntimeError(f"every image failed, the first with {next(iter(failures.values()))}")
    with ProposalStoreWriter(output, replace(metadata, failures=failures, dropped_boxes=dropped)) as writer:
        for part in parts:
            store = ProposalStore(part)
            for row, image_id in enumerate(store):
                writer.write(image_id, *store.read_row(row), store.image_stamp(row))
    for part in parts:  # before run.json, so that no parts are left without their fingerprint
        os.remove(part)
    shutil.rmtree(folder, ignore_errors=True)  # a process that waits may create its lock file again
    return ProposalStore(output)
