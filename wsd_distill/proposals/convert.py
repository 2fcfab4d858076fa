"""Conversion between proposal stores and the proposal files of other programs."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from ..data.image import ImageFile
from ..data.proposal_store import ProposalStore, ProposalStoreWriter, StoreMetadata, check_boxes, clip_boxes
from ..data.types import DatasetDict, Proposals
from ..io import atomic_write
from .formats import coco_results, detectron2_pickle, mat_files
from .formats.proposal_file import ProposalFile, Row, Rows, guess_format

logger = logging.getLogger(__name__)

MISSING_POLICIES = ("error", "whole-image", "empty")


class Converter:
    """Match the proposals of a file to the images of a dataset, check and clip them.

    Images of the file that are not in the dataset are left out. Boxes are clipped to their image; those without area
    are dropped. Everything is counted and logged.

    Args:
        source: proposals read by :func:`read_proposals`.
        dataset_dicts: images; sizes are read from the image files if the dataset dicts have none.
        missing: for images that are not in the file: raise an error ("error"), use the whole image with score 1
            ("whole-image"), or use no box ("empty").
        top: number of best proposals to keep per image; None: all.
        sigmoid: convert scores from logits to probabilities.

    Raises:
        ValueError: an image is missing, or two images of the dataset have the same name.
    """

    def __init__(
        self,
        source: ProposalFile,
        dataset_dicts: list[DatasetDict],
        *,
        missing: str = "error",
        top: int | None = None,
        sigmoid: bool = False,
    ) -> None:
        self.source, self.top, self.sigmoid = source, top, sigmoid
        self._records = sorted(dataset_dicts, key=lambda record: str(record["image_id"]))
        self._check_names()
        self._missing = {str(r["image_id"]) for r in self._records if source.image_name(r) not in source}
        self._use_whole_image = missing == "whole-image"
        if self._missing:
            examples = ", ".join(f"'{name}'" for name in sorted(self._missing)[:3])
            images = f"{len(self._missing)} images ({examples}{', ...' if len(self._missing) > 3 else ''})"
            text = f"{source.path} has no proposals for {images} of the dataset's {len(self._records)}"
            if missing == "error":
                raise ValueError(f"{text}: use the file of this dataset, or --missing whole-image or empty")
            logger.warning("%s: they get %s", text, "the whole image" if self._use_whole_image else "no box")
        extra = len(source) - len(self._records) + len(self._missing)
        if extra:
            logger.info("%d images of %s are not in the dataset and left out", extra, source.path)

    @property
    def failures(self) -> dict[str, str]:
        """Images that get the whole image, for the metadata of a store."""
        reason = f"not in {os.path.basename(self.source.path)}"
        return dict.fromkeys(self._missing, reason) if self._use_whole_image else {}

    def rows(self) -> Iterator[Row]:
        """Yield dataset dict, boxes and scores of every image, in the order of a store."""
        clipped = dropped = empty = total = 0
        lowest = np.inf
        for record in self._records:
            size = (record["height"], record["width"]) if "height" in record else ImageFile(record["file_name"]).shape
            boxes, scores, num_clipped, num_dropped = clip_boxes(*self._load(record, size), *size)
            boxes, scores = boxes[: self.top], scores[: self.top]
            clipped, dropped = clipped + num_clipped, dropped + num_dropped
            total, empty = total + len(boxes), empty + (len(boxes) == 0)
            lowest = min(lowest, scores.min(initial=np.inf))
            yield record, boxes, scores
        logger.info("%d images, %d boxes", len(self._records), total)
        logger.info("clipped to the image: %d boxes; dropped because no area was left: %d", clipped, dropped)
        if empty:
            logger.warning("%d images have no box", empty)
        if lowest < 0:
            logger.warning("the lowest score is %.3g, but the teacher multiplies by scores: use --sigmoid", lowest)

    def _check_names(self) -> None:
        seen: dict[str, DatasetDict] = {}
        for record in self._records:
            name = self.source.image_name(record)
            other = seen.setdefault(name, record)
            if other is not record:
                files = f"{other['file_name']} and {record['file_name']}"
                raise ValueError(f"two images of the dataset have the name '{name}': {files}")

    def _load(self, record: DatasetDict, size: tuple[int, int]) -> Proposals:
        """Return the proposals of an image of ``size`` (height, width), best first."""
        if str(record["image_id"]) in self._missing:
            found = [[0, 0, *size[::-1]]] if self._use_whole_image else []
            return np.array(found, dtype=np.float32).reshape(-1, 4), np.ones(len(found), dtype=np.float32)
        name = self.source.image_name(record)
        boxes, scores = self.source[name]
        check_boxes(f"{self.source.path}: image '{name}'", boxes, scores)
        scores = 1 / (1 + np.exp(-scores)) if self.sigmoid else scores
        order = np.argsort(-scores, kind="stable")
        return boxes[order], scores[order]


def read_proposals(
    path: str, dataset_name: str, file_format: str | None = None, box_format: str = mat_files.BOX_FORMATS[0]
) -> ProposalFile:
    """Open a file of proposals.

    Args:
        path: file, or folder of .mat files.
        dataset_name: dataset that a proposal store must belong to; other formats do not record it.
        file_format: a value of ``proposal_file.FORMATS``; None: by the suffix of ``path``.
        box_format: columns of a .mat file, one of ``mat_files.BOX_FORMATS``.

    Raises:
        FileNotFoundError: ``path`` is missing.
        ValueError: ``path`` is invalid or has another format.
    """
    if not os.path.exists(path):
        raise FileNotFoundError(f"{path} is missing")
    readers: dict[str, Callable[[str], ProposalFile]] = {
        "store": partial(_read_store, dataset_name=dataset_name),
        "detectron2": detectron2_pickle.read,
        "mat": partial(mat_files.read, box_format=box_format),
        "coco": coco_results.read_json,
        "predictions": coco_results.read_predictions,
    }
    return readers[file_format or guess_format(path)](path)


def _read_store(path: str, dataset_name: str) -> ProposalFile:
    store = ProposalStore(path, dataset_name)
    names = list(store)
    return ProposalFile(path, names, lambda position: store[names[position]])


def write_proposals(
    path: str,
    converter: Converter,
    dataset_name: str,
    file_format: str | None = None,
    box_format: str = mat_files.BOX_FORMATS[0],
) -> None:
    """Write converted proposals atomically; arguments as in :func:`read_proposals`."""
    file_format = file_format or guess_format(path)
    if file_format == "store":
        _write_store(path, converter, dataset_name)
        return
    writers: dict[str, Callable[[str, Rows], None]] = {
        "detectron2": detectron2_pickle.write,
        "mat": partial(mat_files.write, box_format=box_format),
        "coco": coco_results.write_json,
        "predictions": coco_results.write_predictions,
    }
    with atomic_write(path) as tmp_path:
        writers[file_format](str(tmp_path), converter.rows())


def _write_store(path: str, converter: Converter, dataset_name: str) -> None:
    parameters = {
        "file": os.path.basename(converter.source.path),
        "scores": converter.source.scores,
        "top": converter.top,
        "sigmoid": converter.sigmoid,
    }
    metadata = StoreMetadata(dataset_name, "converted", parameters, failures=converter.failures)
    with ProposalStoreWriter(path, metadata) as writer:
        for record, boxes, scores in converter.rows():
            writer.write(record["image_id"], boxes, scores)
