"""Run a generator of object proposals over a dataset: dataset dicts in, proposal store out.

The work is split into parts of a few images. Each finished part is a small store of its own in
``<output>.parts/``, so that an interrupted run goes on where it was; in the end they become one file. Shards of a
run, on one machine or several, share that folder.
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

from ..data.image import read_rgb
from ..data.proposal_store import ProposalStore, ProposalStoreWriter, StoreMetadata
from ..data.workers import raise_if_cancelled, run_jobs
from .boxes import clip_boxes
from .progress import progress_bar
from .recall import proposal_recall
from .sharding import Shard, claim_shard, describe_mismatch, fingerprint, image_fingerprint, merge_when_complete

logger = logging.getLogger(__name__)


class Proposer(Protocol):
    """Image (H, W, 3) uint8 RGB -> boxes (R, 4) XYXY_ABS in its pixels, scores (R,)."""

    name: str
    parameters: dict  # all that boxes depend on, as JSON
    in_workers: bool  # picklable and small enough for many processes; otherwise it works in this one

    def __call__(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]: ...


def generate(
    dataset_dicts: list[dict],
    dataset_name: str,
    proposer: Proposer,
    output: str | os.PathLike,
    *,
    num_workers: int,
    shard: Shard = Shard(),  # noqa: B008  (frozen)
    images_per_part: int = 32,
    read_image: Callable[[str], np.ndarray] = read_rgb,
    overwrite: bool = False,
) -> ProposalStore | None:
    """Make the proposal store ``output``, or go on with it, and log a summary.

    An image that cannot be read, or that the proposer fails on or has values for that are not finite, gets no box,
    so that the mapper takes the whole image; the log and the store's ``metadata.failures`` name it. Boxes are clipped
    to the image; those without an area in it are dropped and counted. A store that is there already, for the same
    images (ids and, of some, the file's size) and parameters, is returned as it is; the log names its failures.

    Args:
        dataset_dicts: with image_id, file_name and, where known, height and width; the summary uses ``annotations``.
        num_workers: processes; 0 works in this one.
        shard: which share of the work to do.
        read_image: file name -> (H, W, 3) uint8 RGB.
        overwrite: replace an existing store.

    Returns:
        The store; None where other shards have still to do their share.

    Raises:
        FileExistsError: ``output`` or its parts are there, made from other images or with other parameters.
        ValueError: a dataset dict lacks a key, or two have one id.
        RuntimeError: every image failed, a worker was killed, or another process is at work on the same shard.
    """
    output = os.fspath(output)
    records = _sorted_records(dataset_dicts)
    pictures = image_fingerprint([record["file_name"] for record in records])
    metadata = StoreMetadata(
        dataset_name, proposer.name, json.loads(json.dumps(proposer.parameters)), pictures=pictures
    )
    wanted = fingerprint(metadata, [str(record["image_id"]) for record in records])
    if os.path.exists(output) and not overwrite:
        return _reuse_store(output, wanted)
    folder = f"{output}.parts"
    starts = range(0, len(records), images_per_part)
    parts = [os.path.join(folder, f"{start // images_per_part:06d}.arrow") for start in starts]
    with claim_shard(folder, {**wanted, "images_per_part": images_per_part}, shard) as there:
        jobs = [
            (records[start : start + images_per_part], part, metadata, proposer, read_image)
            for number, (start, part) in enumerate(zip(starts, parts))
            if there and shard.takes(number)
        ]
        _make_parts(jobs, num_workers if proposer.in_workers else 0)
        store = merge_when_complete(folder, parts, output, metadata, len(records))
    if store is not None:
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


def _reuse_store(output: str, wanted: dict) -> ProposalStore:
    store = ProposalStore(output)
    other = describe_mismatch(fingerprint(store.metadata, store), wanted)
    if other:
        raise FileExistsError(f"{output} has other settings ({other}): give --overwrite or another --output")
    logger.info("%s is already there, with %d images and these parameters: nothing to do", output, len(store))
    _log_failures(store)
    if store.metadata.failures:
        logger.warning("%s keeps these as they were: if they are mended since, give --overwrite", output)
    return store


def _make_parts(jobs: list[tuple], num_workers: int) -> None:
    """Of one shard; those that are there already stay."""
    missing = [job for job in jobs if not os.path.exists(job[1])]
    images, left = (sum(len(job[0]) for job in some) for some in (jobs, missing))
    started = time.perf_counter()
    with progress_bar(images, images - left) as progress:
        with closing(run_jobs(_make_part, missing, num_workers)) as finished:  # stops workers on Ctrl-C
            for count in finished:
                progress.update(count)
    rate = left / (time.perf_counter() - started)
    logger.info("%d images, %d of them now, %.1f images/s", images, left, rate)


def _make_part(records: list[dict], path: str, metadata: StoreMetadata, proposer: Proposer, read: Callable) -> int:
    rows, failures, dropped = [], {}, 0
    for record in records:
        raise_if_cancelled()
        image_id = str(record["image_id"])
        try:
            boxes, scores, outside = _propose(record, proposer, read)
        except Exception as error:  # whatever is wrong with an image, the others go on
            failures[image_id] = f"{record['file_name']}: {type(error).__name__}: {error}"
            boxes, scores, outside = np.zeros((0, 4)), np.zeros(0), 0
        rows.append((image_id, boxes, scores))
        dropped += outside
    with ProposalStoreWriter(path, replace(metadata, failures=failures, dropped_boxes=dropped)) as writer:
        for row in rows:
            writer.write(*row)
    return len(records)


def _propose(record: dict, proposer: Proposer, read: Callable) -> tuple[np.ndarray, np.ndarray, int]:
    """Boxes within the image, their scores, and how many boxes were dropped since they had no area there."""
    image = read(record["file_name"])
    if "height" in record and image.shape[:2] != (record["height"], record["width"]):
        said = f"{record['width']} x {record['height']}"
        raise ValueError(f"the picture is {image.shape[1]} x {image.shape[0]}, its dataset dict says {said}")
    boxes, scores = proposer(image)
    if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        raise ValueError(f"{proposer.name} gives boxes or scores that are not finite")
    boxes, scores, counts = clip_boxes(boxes, scores, *image.shape[:2])
    return boxes, scores, counts.dropped


def _log_summary(store: ProposalStore, dataset_dicts: list[dict]) -> None:
    counts = [len(scores) for _, (_, scores) in store.items()] or [0]
    logger.info("%s: %d images", store.path, len(store))
    logger.info("boxes per image: min %d, mean %.1f, max %d", min(counts), np.mean(counts), max(counts))
    if store.metadata.dropped_boxes:
        logger.info("%d boxes had no area within their image and were dropped", store.metadata.dropped_boxes)
    recall = proposal_recall(store, dataset_dicts)
    if recall is not None:
        for threshold, at in zip((0.5, 0.7), recall.T):
            logger.info("recall at IoU %.1f: %.3f with 100 boxes, %.3f with 500", threshold, *at)
    _log_failures(store)


def _log_failures(store: ProposalStore) -> None:
    for image_id, reason in store.metadata.failures.items():
        logger.warning("image %s has no proposals, T-WDet gets the whole image: %s", image_id, reason)
