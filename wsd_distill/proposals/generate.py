"""Run a proposal generator over a dataset: dataset dicts in, proposal store out.

The work is split into parts of a few images. Each finished part is a small store in ``<output>.parts/``, so that an
interrupted run can be resumed; the parts are merged in the end. Shards of a run, on one or several machines, share
that folder.
"""

from __future__ import annotations

import io
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import replace

import numpy as np
from tqdm import tqdm

from ..data.datasets.readers import check_unique
from ..data.image import UNKNOWN_IMAGE, ImageFile, ImageStamp, image_fingerprint
from ..data.proposal_store import (
    ProposalStore,
    ProposalStoreWriter,
    StoreMetadata,
    check_finite,
    check_scores,
    clip_boxes,
)
from ..data.types import DatasetDict
from ..data.workers import raise_if_cancelled, run_jobs
from .generators import Proposer
from .recall import proposal_recall
from .sharding import (
    Shard,
    claim_shard,
    describe_mismatch,
    file_version,
    fingerprint,
    merge_when_complete,
)

logger = logging.getLogger(__name__)

Row = tuple[str, np.ndarray, np.ndarray, ImageStamp]  # image id, boxes (R, 4), scores (R,), image file

JobRunner = Callable[[Callable, list[tuple], int], Generator]  # function, jobs, processes -> results as they finish

_LOG_LINE = "{desc}: {n_fmt} of {total_fmt} images, {rate_fmt}, {remaining} left"


class InvalidScoresError(ValueError):
    """A proposer returned scores outside 0..1, by which T-WDet multiplies."""


def generate(
    dataset_dicts: list[DatasetDict],
    dataset_name: str,
    proposer: Proposer,
    output: str | os.PathLike,
    *,
    num_workers: int,
    shard: Shard = Shard(),  # noqa: B008  (frozen)
    images_per_part: int = 32,
    read_image: Callable[[str], np.ndarray] | None = None,
    overwrite: bool = False,
    run_jobs: JobRunner = run_jobs,
) -> ProposalStore | None:
    """Create or resume the proposal store ``output``, and log a summary.

    Boxes are clipped to the image; those without area are dropped and counted. If an image cannot be read, or the
    proposer fails or returns values that are not finite, the image gets no box, so that the mapper uses the whole
    image; the log and the store's ``metadata.failures`` name it. An existing store of the same images (ids and a sample
    of the file sizes) and the same parameters is reused. Of several processes that create the same store, one works
    and the others wait for it.

    Args:
        dataset_dicts: images; only ``image_id`` and ``file_name`` are required, ``height`` and ``width`` are checked if
            present, ``annotations`` are used for the summary.
        dataset_name: registered name, saved in the store.
        num_workers: number of processes; 0 runs in this one.
        shard: share of the work to do.
        read_image: reads (H, W, 3) uint8 RGB from a file; None: as an :class:`ImageFile`, whose hash is then saved.
        overwrite: replace an existing store, and discard parts of other images or parameters.
        run_jobs: yields the results of independent jobs, by default in ``num_workers`` processes of this machine.

    Returns:
        The store, or None if other shards have not finished.

    Raises:
        FileExistsError: ``output`` or its parts exist, with other images or parameters; with ``overwrite`` only if a
            running process makes these parts.
        ValueError: a dataset dict lacks a key, an image id is not unique, the proposer lacks a dependency, or its
            scores are not in 0..1.
        OSError: the disk is full; names the file. Finished parts are kept.
        RuntimeError: every image failed, or a worker was killed.
    """
    output = os.fspath(output)
    if os.path.isdir(output):
        raise ValueError(f"{output} is a folder, not a file: give the path of a proposal store")
    proposer.prepare()
    records = _sort_records(dataset_dicts, dataset_name)
    metadata = StoreMetadata(
        dataset_name,
        proposer.name,
        json.loads(json.dumps(proposer.parameters)),
        image_fingerprint=image_fingerprint([record["file_name"] for record in records]),
    )
    expected = fingerprint(metadata, [str(record["image_id"]) for record in records])
    before = file_version(output)
    if before is not None and not overwrite:
        return _reuse_store(output, expected)
    folder = f"{output}.parts"
    starts = range(0, len(records), images_per_part)
    parts = [os.path.join(folder, f"{start // images_per_part:06d}.arrow") for start in starts]
    expected_run = {**expected, "images_per_part": images_per_part}
    claim = claim_shard(folder, expected_run, shard, lambda: file_version(output) != before, discard=overwrite)
    with claim as has_work:
        if not has_work:  # another process has created the store meanwhile
            return _reuse_store(output, expected)
        jobs = [
            (records[start : start + images_per_part], part, metadata, proposer, read_image)
            for number, (start, part) in enumerate(zip(starts, parts))
            if number % shard.count == shard.number - 1
        ]
        _make_parts(jobs, num_workers if proposer.in_workers else 0, run_jobs)
        store = merge_when_complete(folder, parts, output, metadata, len(records))
    if store is not None:
        _log_summary(store, dataset_dicts)
    return store


def _sort_records(dataset_dicts: list[DatasetDict], dataset_name: str) -> list[dict]:
    """Return the keys that workers need, in the order of the store."""
    keys = ("image_id", "file_name", "height", "width")
    for record in dataset_dicts:
        required = keys if "height" in record or "width" in record else keys[:2]
        missing = [key for key in required if key not in record]
        if missing:
            name = record.get("image_id", record.get("file_name"))
            raise ValueError(f"image {name}: its dataset dict lacks {missing}")
    check_unique((str(record["image_id"]) for record in dataset_dicts), dataset_name)
    records = [{key: value for key, value in record.items() if key in keys} for record in dataset_dicts]
    return sorted(records, key=lambda record: str(record["image_id"]))


def _reuse_store(output: str, expected: dict) -> ProposalStore:
    store = ProposalStore(output)
    if mismatch := describe_mismatch(fingerprint(store.metadata, store), expected):
        raise FileExistsError(
            f"{output} has other settings ({mismatch}): replace it with --overwrite, or set another file by "
            "proposals.train, proposals.val or proposals.test"
        )
    logger.info("%s already exists, with %d images and these parameters: nothing to do", output, len(store))
    _log_failures(store)
    if store.metadata.failures:
        logger.warning("%s is reused with these failures: once they are fixed, use --overwrite", output)
    return store


def _make_parts(jobs: list[tuple], num_workers: int, run_jobs: JobRunner) -> None:
    """Create the parts of one shard that do not exist yet."""
    missing = [job for job in jobs if not os.path.exists(job[1])]
    images, remaining = (sum(len(job[0]) for job in some) for some in (jobs, missing))
    started = time.perf_counter()
    finished = closing(run_jobs(_make_part, missing, num_workers))  # stops the workers on Ctrl-C
    with finished as counts, progress_bar(images, images - remaining) as progress:
        for count in counts:
            progress.update(count)
    rate = remaining / (time.perf_counter() - started)
    logger.info("%d images, %d of them in this run, %.1f images/s", images, remaining, rate)


class _LogLines(io.TextIOBase):
    """Log each update of tqdm as a line."""

    def write(self, text: str) -> int:
        if line := text.strip():
            logger.info(line)
        return len(text)


def progress_bar(images: int, done: int, seconds: float = 60.0) -> tqdm:
    """Show a bar on a terminal, otherwise a log line every ``seconds``."""
    options: dict = {}
    if not sys.stderr.isatty():
        options = {"file": _LogLines(), "mininterval": seconds, "maxinterval": seconds, "bar_format": _LOG_LINE}
    return tqdm(total=images, initial=done, unit=" images", desc="proposals", **options)


def _make_part(
    records: list[dict], path: str, metadata: StoreMetadata, proposer: Proposer, read: Callable | None
) -> int:
    rows: list[Row] = []
    failures, dropped_boxes = {}, 0
    for record in records:
        raise_if_cancelled()
        image_id = str(record["image_id"])
        try:
            boxes, scores, dropped, stamp = _propose(record, proposer, read)
            rows.append((image_id, boxes, scores, stamp))
            dropped_boxes += dropped
        except InvalidScoresError:  # of every image
            raise
        except Exception as error:  # one bad image must not stop the others
            failures[image_id] = f"{record['file_name']}: {type(error).__name__}: {error}"
            rows.append((image_id, np.zeros((0, 4)), np.zeros(0), UNKNOWN_IMAGE))
    with ProposalStoreWriter(path, replace(metadata, failures=failures, dropped_boxes=dropped_boxes)) as writer:
        for row in rows:
            writer.write(*row)
    return len(records)


def _propose(record: dict, proposer: Proposer, read: Callable | None) -> tuple[np.ndarray, np.ndarray, int, ImageStamp]:
    """Return clipped boxes, their scores, the number of boxes dropped, and the stamp of the image file."""
    if read is None:
        file = ImageFile(record["file_name"])
        image, stamp = file.pixels(), file.stamp
    else:
        image = read(record["file_name"])
        stamp = ImageStamp(*image.shape[:2])
    height, width = image.shape[:2]
    if "height" in record and (height, width) != (record["height"], record["width"]):
        raise ValueError(
            f"the image is {width} x {height}, its dataset dict has {record['width']} x {record['height']}"
        )
    boxes, scores = proposer(image)
    check_finite(proposer.name, boxes, scores)
    try:
        check_scores(f"{record['file_name']}: {proposer.name}", scores)
    except ValueError as error:
        raise InvalidScoresError(str(error)) from None
    boxes, scores, _, dropped = clip_boxes(boxes, scores, height, width)
    return boxes, scores, dropped, stamp


def _log_summary(store: ProposalStore, dataset_dicts: list[DatasetDict]) -> None:
    counts = [len(scores) for _, (_, scores) in store.items()] or [0]
    logger.info("%s: %d images", store.path, len(store))
    logger.info("boxes per image: min %d, mean %.1f, max %d", min(counts), np.mean(counts), max(counts))
    if store.metadata.dropped_boxes:
        logger.info("%d boxes without area inside their image were dropped", store.metadata.dropped_boxes)
    recall = proposal_recall(store, dataset_dicts)
    if recall is not None:
        for threshold, at_limits in zip((0.5, 0.7), recall.T):
            logger.info("recall at IoU %.1f: %.3f with 100 boxes, %.3f with 500", threshold, *at_limits)
    _log_failures(store)


def _log_failures(store: ProposalStore) -> None:
    for image_id, reason in store.metadata.failures.items():
        logger.warning("image %s has no proposals, T-WDet gets the whole image: %s", image_id, reason)
