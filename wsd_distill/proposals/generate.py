"""Run a generator of object proposals over a data set: dataset dicts in, proposal store out.

The work is split into parts of a few images. Each finished part is a small store of its own in
``<output>.parts/``, so that an interrupted run goes on where it was; in the end they become one file.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import Protocol

import numpy as np
from tqdm import tqdm

from ..data.image import read_rgb
from ..data.proposal_store import ProposalStore, ProposalStoreWriter, StoreMetadata
from ..data.workers import check_stopped, run_jobs
from .parts import claimed, difference, identity, merge
from .recall import proposal_recall

logger = logging.getLogger(__name__)


class Proposer(Protocol):
    """Image (H, W, 3) uint8 RGB -> boxes (R, 4) XYXY_ABS in its pixels, scores (R,). Picklable."""

    name: str
    parameters: dict  # all that boxes depend on, as JSON

    def __call__(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]: ...


def generate(
    dataset_dicts: list[dict],
    dataset_name: str,
    proposer: Proposer,
    output: str | os.PathLike,
    *,
    num_workers: int,
    images_per_part: int = 64,
    read_image: Callable[[str], np.ndarray] = read_rgb,
    overwrite: bool = False,
) -> ProposalStore:
    """Make the proposal store ``output``, or go on with it, and log a summary.

    An image that cannot be read, or that the proposer fails on, gets the whole image as its box with score 1;
    the log and the store's ``metadata.failures`` name it. Without a size in its dataset dict it gets no box, and the
    mapper takes the whole image all the same. A store that is there already, for the same images
    and parameters, is returned as it is.

    Args:
        dataset_dicts: with image_id, file_name and, where known, height and width; the summary uses ``annotations``.
        num_workers: processes; 0 works in this one.
        read_image: file name -> (H, W, 3) uint8 RGB.
        overwrite: replace an existing store.

    Raises:
        FileExistsError: ``output`` or its parts are there, made from other images or with other parameters.
        ValueError: a dataset dict lacks a key, or two have one id.
        RuntimeError: every image failed, a worker was killed, or another process is making the same file.
    """
    output = os.fspath(output)
    records = _sorted_records(dataset_dicts)
    metadata = StoreMetadata(dataset_name, proposer.name, json.loads(json.dumps(proposer.parameters)))
    wanted = identity(metadata, [str(record["image_id"]) for record in records])
    if os.path.exists(output) and not overwrite:
        return _existing(output, wanted)
    folder = f"{output}.parts"
    with claimed(folder, {**wanted, "images_per_part": images_per_part}):
        starts = range(0, len(records), images_per_part)
        parts = [os.path.join(folder, f"{start // images_per_part:06d}.arrow") for start in starts]
        jobs = [
            (records[start : start + images_per_part], part, metadata, proposer, read_image)
            for start, part in zip(starts, parts)
            if not os.path.exists(part)
        ]
        _make_parts(jobs, len(records), num_workers)
        store = merge(folder, parts, output, metadata, len(records))
    _log_summary(store, dataset_dicts)
    return store


def _sorted_records(dataset_dicts: list[dict]) -> list[dict]:
    """What workers need of the dataset dicts, in the order of the store."""
    for record in dataset_dicts:
        sized = "height" in record or "width" in record
        keys = ("image_id", "file_name", *(("height", "width") if sized else ()))
        missing = [key for key in keys if key not in record]
        if missing:
            name = record.get("image_id", record.get("file_name"))
            raise ValueError(f"image {name}: its dataset dict lacks {missing}")
    kept = ("image_id", "file_name", "height", "width")
    records = [{key: record[key] for key in kept if key in record} for record in dataset_dicts]
    records.sort(key=lambda record: str(record["image_id"]))
    for before, after in zip(records, records[1:]):
        if str(before["image_id"]) == str(after["image_id"]):
            raise ValueError(f"two images have the id '{after['image_id']}'")
    return records


def _existing(output: str, wanted: dict) -> ProposalStore:
    store = ProposalStore(output)
    other = difference(identity(store.metadata, store), wanted)
    if other:
        raise FileExistsError(f"{output} has other settings ({other}): give --overwrite or another --output")
    logger.info("%s is already there, with %d images and these parameters: nothing to do", output, len(store))
    return store


def _make_parts(jobs: list[tuple], images: int, num_workers: int) -> None:
    missing = sum(len(job[0]) for job in jobs)
    started = time.perf_counter()
    with tqdm(total=images, initial=images - missing, unit="image", desc="proposals") as progress:
        with closing(run_jobs(_make_part, jobs, num_workers)) as finished:  # stops workers on Ctrl-C
            for count in finished:
                progress.update(count)
    rate = missing / (time.perf_counter() - started)
    logger.info("%d images, %d of them now, %.1f images/s", images, missing, rate)


def _make_part(records: list[dict], path: str, metadata: StoreMetadata, proposer: Proposer, read: Callable) -> int:
    rows, failures = [], {}
    for record in records:
        check_stopped()
        image_id = str(record["image_id"])
        try:
            rows.append((image_id, *_propose(record, proposer, read)))
        except Exception as error:  # whatever is wrong with an image, the others go on
            failures[image_id] = f"{record['file_name']}: {type(error).__name__}: {error}"
            rows.append((image_id, *_whole_image(record)))
    with ProposalStoreWriter(path, replace(metadata, failures=failures)) as writer:
        for row in rows:
            writer.write(*row)
    return len(records)


def _whole_image(record: dict) -> tuple[np.ndarray, np.ndarray]:
    """One box with score 1, or none where the size is not known."""
    box = [0, 0, record["width"], record["height"]] if "width" in record else []
    return np.array(box, dtype=np.float32).reshape(-1, 4), np.ones(len(box) // 4, dtype=np.float32)


def _propose(record: dict, proposer: Proposer, read: Callable) -> tuple[np.ndarray, np.ndarray]:
    image = read(record["file_name"])
    if "height" in record and image.shape[:2] != (record["height"], record["width"]):
        said = f"{record['width']} x {record['height']}"
        raise ValueError(f"the picture is {image.shape[1]} x {image.shape[0]}, its dataset dict says {said}")
    return proposer(image)


def _log_summary(store: ProposalStore, dataset_dicts: list[dict]) -> None:
    counts = [len(scores) for _, (_, scores) in store.items()] or [0]
    logger.info("%s: %d images", store.path, len(store))
    logger.info("boxes per image: min %d, mean %.1f, max %d", min(counts), np.mean(counts), max(counts))
    recall = proposal_recall(store, dataset_dicts)
    if recall is not None:
        for threshold, (at_100, at_all) in zip((0.5, 0.7), recall.T):
            logger.info("recall at IoU %.1f: %.3f with 100 boxes, %.3f with all", threshold, at_100, at_all)
    for image_id, reason in store.metadata.failures.items():
        logger.warning("image %s got the whole image as its only proposal: %s", image_id, reason)
