"""Conversion between proposal stores and the proposal files of other programs."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from ..data.image import UNKNOWN_IMAGE, ImageError, ImageFile, ImageStamp
from ..data.proposal_store import (
    ProposalStore,
    ProposalStoreWriter,
    StoreMetadata,
    check_stamp,
    clip_boxes,
    name_full_disk,
)
from ..data.types import DatasetDict, Proposals
from ..io import atomic_write, check_file
from .formats import coco_results, detectron2_pickle, mat_files
from .formats.proposal_file import ProposalFile, Row, Rows, guess_format
from .image_names import match_images
from .survey import Survey

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
        score_scale: factor of the scores.
        accept_boxes: convert boxes that seem to have another format.

    Raises:
        ValueError: an image is missing, two images of the dataset have the same name, scores are not in 0..1, or more
            than 5 % of the boxes are cut or dropped, which another format explains; names the option.
    """

    def __init__(
        self,
        source: ProposalFile,
        dataset_dicts: list[DatasetDict],
        *,
        missing: str = "error",
        top: int | None = None,
        sigmoid: bool = False,
        score_scale: float = 1.0,
        accept_boxes: bool = False,
    ) -> None:
        self.source, self.top, self.sigmoid, self.score_scale = source, top, sigmoid, score_scale
        self._records = sorted(dataset_dicts, key=lambda record: str(record["image_id"]))
        self._stamps: dict[str, ImageStamp] = {}
        self._names = {str(r["image_id"]): name for r, name in zip(self._records, match_images(source, self._records))}
        self._missing = [image_id for image_id, name in self._names.items() if name is None]
        self._use_whole_image = missing == "whole-image"
        if self._missing:
            examples = ", ".join(f"'{name}'" for name in self._missing[:3])
            images = f"{len(self._missing)} images ({examples}{', ...' if len(self._missing) > 3 else ''})"
            text = f"{source.path} has no proposals for {images} of the dataset's {len(self._records)}"
            if missing == "error":
                raise ValueError(f"{text}: use the file of this dataset, or --missing whole-image or empty")
            logger.warning("%s: they get %s", text, "the whole image" if self._use_whole_image else "no box")
        extra = len(source) - len(self._records) + len(self._missing)
        if extra:
            logger.info("%d images of %s are not in the dataset and left out", extra, source.path)
        pairs = [(self._names[str(r["image_id"])], r) for r in self._records]
        survey = Survey(source, [(name, *self._size(record)) for name, record in pairs if name is not None])
        if not accept_boxes:
            survey.check_boxes()
        self.scores, self._ranked = survey.choose_scores(self._transform)

    @property
    def failures(self) -> dict[str, str]:
        """Images that get the whole image, for the metadata of a store."""
        reason = f"not in {os.path.basename(self.source.path)}"
        return dict.fromkeys(self._missing, reason) if self._use_whole_image else {}

    def rows(self) -> Iterator[Row]:
        """Yield dataset dict, boxes and scores of every image, in the order of a store."""
        clipped = dropped = empty = total = 0
        for record in self._records:
            size = self._size(record)
            boxes, scores, num_clipped, num_dropped = clip_boxes(*self._load(record, size), *size)
            boxes, scores = boxes[: self.top], scores[: self.top]
            clipped, dropped = clipped + num_clipped, dropped + num_dropped
            total, empty = total + len(boxes), empty + (len(boxes) == 0)
            yield record, boxes, scores
        logger.info("%d images, %d boxes", len(self._records), total)
        logger.info("clipped to the image: %d boxes; dropped because no area was left: %d", clipped, dropped)
        if empty:
            logger.warning("%d images have no box", empty)

    def stamp(self, record: DatasetDict) -> ImageStamp:
        """Read what identifies an image file; the parts are 0 if there is no file.

        Raises:
            ImageError: the file is not an image.
            ValueError: its size differs from the dataset dict's, or it is not the image that a store was made for.
        """
        name = str(record["image_id"])
        if name not in self._stamps:
            self._stamps[name] = self._read_stamp(record)
        return self._stamps[name]

    def _read_stamp(self, record: DatasetDict) -> ImageStamp:
        try:
            found = ImageFile(record["file_name"]).stamp
        except ImageError as error:
            if "height" in record and isinstance(error.__cause__, FileNotFoundError):
                return UNKNOWN_IMAGE
            raise
        expected = ImageStamp(record.get("height", 0), record.get("width", 0))
        if expected.differs(found):
            sizes = f"{found.width} x {found.height}, its dataset dict has {expected.width} x {expected.height}"
            raise ValueError(f"{record['file_name']} is {sizes}")
        name = self._names[str(record["image_id"])]
        if name is not None:
            check_stamp(record["file_name"], self.source.stamp(name), found)
        return found

    def _size(self, record: DatasetDict) -> tuple[int, int]:
        """Return height and width."""
        if "height" in record and self.source.stamps is None:
            return record["height"], record["width"]
        stamp = self.stamp(record)
        return (stamp.height, stamp.width) if stamp.height else (record["height"], record["width"])

    def _transform(self, scores: np.ndarray) -> np.ndarray:
        scores = scores * self.score_scale
        return 1 / (1 + np.exp(-scores)) if self.sigmoid else scores

    def _load(self, record: DatasetDict, size: tuple[int, int]) -> Proposals:
        """Return the proposals of an image of ``size`` (height, width), best first."""
        name = self._names[str(record["image_id"])]
        if name is None:
            found = [[0, 0, *size[::-1]]] if self._use_whole_image else []
            return np.array(found, dtype=np.float32).reshape(-1, 4), np.ones(len(found), dtype=np.float32)
        raw_boxes, raw_scores = self.source[name]
        boxes = self.source.to_xyxy(raw_boxes, *size)
        scores = None if raw_scores is None or self._ranked else self._transform(raw_scores)
        if scores is None or not scores.any():  # T-WDet multiplies by them
            scores = 1 - np.arange(len(boxes)) / max(len(boxes), 1)
        scores = scores.clip(0, 1).astype(np.float32)  # beyond by rounding
        order = np.argsort(-scores, kind="stable")
        return boxes[order], scores[order]


def read_proposals(
    path: str, dataset_name: str, file_format: str | None = None, box_format: str | None = None
) -> ProposalFile:
    """Open a file of proposals.

    Args:
        path: file, or folder of .mat files.
        dataset_name: dataset that a proposal store must belong to; other formats do not record it.
        file_format: a value of ``proposal_file.FORMATS``; None: by the suffix of ``path``.
        box_format: columns of the boxes, one of ``BOX_FORMATS``; None: those of the format.

    Raises:
        FileNotFoundError: ``path`` is missing.
        ValueError: ``path`` is invalid or has another format, or ``box_format`` is given for a store.
    """
    if not os.path.exists(path):
        raise FileNotFoundError(f"{path} is missing")
    file_format = file_format or guess_format(path)
    if not (file_format == "mat" and os.path.isdir(path)):
        check_file(path)
    readers: dict[str, Callable[[str], ProposalFile]] = {
        "store": partial(_read_store, dataset_name=dataset_name),
        "detectron2": detectron2_pickle.read,
        "mat": mat_files.read,
        "coco": coco_results.read_json,
        "predictions": coco_results.read_predictions,
    }
    source = readers[file_format](path)
    if box_format is not None and file_format == "store":
        raise ValueError(f"{path}: the boxes of a store have one format, so that --box-format {box_format} is wrong")
    source.box_format = box_format or source.box_format
    return source


def _read_store(path: str, dataset_name: str) -> ProposalFile:
    store = ProposalStore(path, dataset_name)
    names = list(store)
    return ProposalFile(path, names, store.read_row, stamps=store.image_stamp)


def write_proposals(
    path: str,
    converter: Converter,
    dataset_name: str,
    file_format: str | None = None,
    mat_order: str = mat_files.BOX_FORMAT,
) -> None:
    """Write converted proposals atomically.

    Args:
        path, dataset_name, file_format: as in :func:`read_proposals`.
        mat_order: columns of the boxes in a .mat file, one of ``mat_files.WRITTEN_FORMATS``.

    Raises:
        OSError: the disk is full; names ``path``.
    """
    file_format = file_format or guess_format(path)
    if file_format == "store":
        _write_store(path, converter, dataset_name)
        return
    writers: dict[str, Callable[[str, Rows], None]] = {
        "detectron2": detectron2_pickle.write,
        "mat": partial(mat_files.write, box_format=mat_order),
        "coco": coco_results.write_json,
        "predictions": coco_results.write_predictions,
    }
    with name_full_disk(path), atomic_write(path) as tmp_path:
        writers[file_format](str(tmp_path), converter.rows())


def _write_store(path: str, converter: Converter, dataset_name: str) -> None:
    parameters = {
        "file": os.path.basename(converter.source.path),
        "scores": converter.scores,
        "top": converter.top,
        "sigmoid": converter.sigmoid,
        "score_scale": converter.score_scale,
        "box_format": converter.source.box_format,
    }
    metadata = StoreMetadata(dataset_name, "converted", parameters, failures=converter.failures)
    with ProposalStoreWriter(path, metadata) as writer:
        unknown = 0
        for record, boxes, scores in converter.rows():
            stamp = converter.stamp(record)
            unknown += not stamp.num_bytes
            writer.write(record["image_id"], boxes, scores, stamp)
    if unknown:
        text = "%d image files are missing: a training will not notice if they are other images than now"
        logger.warning(text, unknown)
