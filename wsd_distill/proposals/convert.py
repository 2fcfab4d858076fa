"""One file of proposals into another, for the images of a dataset."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from functools import partial

import numpy as np

from ..data.image import ImageFile
from ..data.proposal_store import ProposalStore, ProposalStoreWriter, StoreMetadata
from ..io import atomic_write
from .boxes import clip_boxes
from .formats import coco_results, detectron2_pickle, mat_files
from .formats.proposal_file import ProposalFile, Row, guess_format

logger = logging.getLogger(__name__)

MISSING = ("error", "whole-image", "empty")


class Converter:
    """Proposals of the images of a dataset, checked, clipped to their image and counted.

    An image of the dataset that the file lacks is an error, or gets the whole image with score 1 ("whole-image"), or
    no box ("empty"); images of the file that the dataset lacks are left out. Boxes are cut at the edge of their
    image; those without area are dropped. All of it is counted and logged.

    Args:
        source: what a reader gave.
        dataset_dicts: with image_id, file_name and, unless the image is to be asked, height and width.
        top: how many of an image's best to keep; None: all.
        sigmoid: the scores are logits, make probabilities of them.

    Raises:
        ValueError: an image is missing (named), or two of the dataset have one name.
    """

    def __init__(
        self,
        source: ProposalFile,
        dataset_dicts: list[dict],
        *,
        missing: str = "error",
        top: int | None = None,
        sigmoid: bool = False,
    ) -> None:
        self.source, self.top, self.sigmoid = source, top, sigmoid
        self._records = sorted(dataset_dicts, key=lambda record: str(record["image_id"]))
        self._check_names()
        self._missing = {str(r["image_id"]) for r in self._records if source.display_name(r) not in source}
        self._fill = missing == "whole-image"
        if self._missing:
            text = f"{source.path} has no proposals for {_named(self._missing)} of the dataset's {len(self._records)}"
            if missing == "error":
                raise ValueError(f"{text}: is it that of another dataset? Else give --missing whole-image or empty")
            logger.warning("%s: they get %s", text, "the whole image" if self._fill else "no box")
        extra = len(source) - len(self._records) + len(self._missing)
        if extra:
            logger.info("%d images of %s are not in the dataset and left out", extra, source.path)

    @property
    def failures(self) -> dict[str, str]:
        """For the metadata of a store: images that get the whole image."""
        return {name: f"not in {os.path.basename(self.source.path)}" for name in self._missing if self._fill}

    def rows(self) -> Iterator[Row]:
        """Dataset dict, boxes and scores of every image, in the order of a store."""
        clipped = dropped = boxless = total = 0
        lowest = np.inf
        for record in self._records:
            boxes, scores, counts = self._clean(record)
            clipped, dropped = clipped + counts.clipped, dropped + counts.dropped
            total, boxless = total + len(boxes), boxless + (len(boxes) == 0)
            lowest = min(lowest, scores.min(initial=np.inf))
            yield record, boxes, scores
        logger.info("%d images, %d boxes", len(self._records), total)
        logger.info("cut at the edge of the image: %d boxes; dropped, without area: %d", clipped, dropped)
        if boxless:
            logger.warning("%d images have no box", boxless)
        if lowest < 0:
            logger.warning("scores go down to %.3g, and the teacher multiplies by them: logits want --sigmoid", lowest)

    def _check_names(self) -> None:
        seen: dict[str, dict] = {}
        for record in self._records:
            other = seen.setdefault(self.source.display_name(record), record)
            if other is not record:
                name, files = self.source.display_name(record), (other["file_name"], record["file_name"])
                raise ValueError(f"two images of the dataset are called '{name}': {files[0]} and {files[1]}")

    def _clean(self, record: dict) -> tuple:
        height, width = _size(record)
        if str(record["image_id"]) in self._missing:
            found = [[0, 0, width, height]] if self._fill else []
            boxes, scores = np.array(found, dtype=np.float32).reshape(-1, 4), np.ones(len(found), dtype=np.float32)
        else:
            boxes, scores = self.source[self.source.display_name(record)]
            _check(f"{self.source.path}: image '{self.source.display_name(record)}'", boxes, scores)
            scores = 1 / (1 + np.exp(-scores)) if self.sigmoid else scores
        order = np.argsort(-scores, kind="stable")
        boxes, scores, counts = clip_boxes(boxes[order], scores[order], height, width)
        return boxes[: self.top], scores[: self.top], counts


def _size(record: dict) -> tuple[int, int]:
    """Height and width of an image; of its file where the dataset dict has none."""
    return (record["height"], record["width"]) if "height" in record else ImageFile(record["file_name"]).shape


def _check(where: str, boxes: np.ndarray, scores: np.ndarray) -> None:
    if scores.shape != boxes.shape[:1]:
        raise ValueError(f"{where} has {len(boxes)} boxes and scores of shape {scores.shape}")
    for name, values in (("boxes", boxes), ("scores", scores)):
        if not np.isfinite(values).all():
            raise ValueError(f"{where} has {name} that are not finite")
    if (boxes[:, 2:] < boxes[:, :2]).any():
        raise ValueError(f"{where} has boxes that end before they begin: are its columns in another order?")


def _named(names: set[str]) -> str:
    first = ", ".join(f"'{name}'" for name in sorted(names)[:3])
    return f"{len(names)} images ({first}{', ...' if len(names) > 3 else ''})"


def read(path: str, dataset_name: str, kind: str | None = None, order: str = mat_files.BOX_FORMATS[0]) -> ProposalFile:
    """
    Args:
        dataset_name: what a store has to be for; other files do not say.
        kind: a value of ``files.FORMATS``; None: by the suffix of ``path``.
        order: columns of a .mat file.

    Raises:
        FileNotFoundError, ValueError: they name the file.
    """
    if not os.path.exists(path):
        raise FileNotFoundError(f"there is no {path}")
    readers = {
        "store": partial(_read_store, dataset_name=dataset_name),
        "detectron2": detectron2_pickle.read,
        "mat": partial(mat_files.read, order=order),
        "coco": coco_results.read_json,
        "predictions": coco_results.read_predictions,
    }
    return readers[kind or guess_format(path)](path)


def _read_store(path: str, dataset_name: str) -> ProposalFile:
    store = ProposalStore(path, dataset_name)
    names = list(store)
    return ProposalFile(path, names, lambda position: store[names[position]])


def write(
    path: str, converter: Converter, dataset_name: str, kind: str | None = None, order: str = mat_files.BOX_FORMATS[0]
) -> None:
    """Write what the converter gives; the file appears when it is whole. Arguments as of ``read``."""
    kind = kind or guess_format(path)
    if kind == "store":
        _write_store(path, converter, dataset_name)
        return
    writers = {
        "detectron2": detectron2_pickle.write,
        "mat": partial(mat_files.write, order=order),
        "coco": coco_results.write_json,
        "predictions": coco_results.write_predictions,
    }
    with atomic_write(path) as tmp_path:
        writers[kind](str(tmp_path), converter.rows())


def _write_store(path: str, converter: Converter, dataset_name: str) -> None:
    source = converter.source
    parameters = {"file": os.path.basename(source.path), "scores": source.scores, "top": converter.top}
    parameters["sigmoid"] = converter.sigmoid
    metadata = StoreMetadata(dataset_name, "converted", parameters, failures=converter.failures)
    with ProposalStoreWriter(path, metadata) as writer:
        for record, boxes, scores in converter.rows():
            writer.write(record["image_id"], boxes, scores)
