"""The folder of finished parts by which an interrupted run goes on, and how it becomes one proposal store."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from ..data.proposal_store import ProposalStore, ProposalStoreWriter, StoreMetadata


def identity(metadata: StoreMetadata, image_ids: Iterable[str]) -> dict:
    """What two runs have to agree on for one to take over the other's work."""
    return {
        "dataset_name": metadata.dataset_name,
        "generator": metadata.generator,
        **metadata.parameters,
        "image ids": hashlib.sha256("\n".join(image_ids).encode()).hexdigest()[:12],
    }


def difference(found: dict, wanted: dict) -> str:
    """In words; empty where the two identities agree."""
    keys = [key for key in {**found, **wanted} if found.get(key) != wanted.get(key)]
    return "; ".join(f"{key} {found.get(key)}, not {wanted.get(key)}" for key in keys)


@contextmanager
def claimed(folder: str, wanted: dict) -> Iterator[None]:
    """Mark a folder of parts as this run's, or make sure that it is, and keep other processes out.

    Raises:
        FileExistsError: its parts are of another identity.
        RuntimeError: another process is at work in it.
    """
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "run.json"), "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # ends with this process, however that ends
        except BlockingIOError as error:
            raise RuntimeError(f"another process is at work in {folder}: wait for it or stop it") from error
        file.seek(0)
        content = file.read()
        if not content:
            file.write(json.dumps(wanted))
            file.flush()
        other = difference(json.loads(content), wanted) if content else ""
        if other:
            raise FileExistsError(
                f"{folder} has parts of a run with other settings ({other}): "
                "delete that folder or give another --output"
            )
        yield


def merge(folder: str, parts: list[str], output: str, metadata: StoreMetadata, images: int) -> ProposalStore:
    """Stream the parts into one store, one part open at a time, and remove their folder.

    Raises:
        RuntimeError: every image failed.
    """
    failures: dict[str, str] = {}
    for part in parts:
        failures.update(ProposalStore(part).metadata.failures)
    if images and len(failures) == images:
        shutil.rmtree(folder)
        first = next(iter(failures.values()))
        raise RuntimeError(f"not one image got proposals, beginning with {first}")
    with ProposalStoreWriter(output, replace(metadata, failures=failures)) as writer:
        for part in parts:
            for image_id, (boxes, scores) in ProposalStore(part).items():
                writer.write(image_id, boxes, scores)
    shutil.rmtree(folder)
    return ProposalStore(output)
