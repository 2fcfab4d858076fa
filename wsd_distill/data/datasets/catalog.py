"""Datasets by name: in Detectron2's catalogs, and what configs take from ``dataset.name``."""

from __future__ import annotations

import difflib
import hashlib
import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog

from ..types import DatasetDict
from .arrow_records import list_ids, select_records

logger = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class DatasetInfo:
    """Splits and settings that a recipe takes from a dataset.

    Attributes:
        train: registered name of the training split.
        val: registered name of the validation split; equal to ``test`` if a dataset has two splits only.
        test: registered name of the test split.
        flip_prob: probability of a horizontal flip in training; 0 if mirrored images change their class.
        boxes: whether annotations have boxes, so that detections can be evaluated.
        t_teacher: temperature of the teacher's soft labels in the paper (Section 4.2).
        t_student: temperature of the student's logits in the paper.
        edge_boxes: parameters of EdgeBoxes that differ from the defaults.
        recipe: default folder in ``configs`` for tools/reproduce.py.
    """

    train: str
    val: str
    test: str
    flip_prob: float = 0.5
    boxes: bool = False
    t_teacher: float = 1.0
    t_student: float = 5.0
    edge_boxes: Mapping[str, Any] = field(default_factory=dict)
    recipe: str = "efficientnet_lite0"


_INFOS: dict[str, DatasetInfo] = {}


def register(
    name: str,
    load: Callable[..., Sequence[DatasetDict]],
    arguments: dict,
    *,
    classes: Sequence[str],
    images: int | None = None,
) -> None:
    """Register the split ``name``, loaded by ``load(**arguments)``; repeating the call has no effect.

    Args:
        classes: names of the classes, in the order of their indices.
        images: number of images of a complete copy; None if unknown.

    Raises:
        ValueError: the name is taken, by another dataset or by other arguments.
    """
    if name in DatasetCatalog.list():
        before = MetadataCatalog.get(name).get("arguments")
        if before != arguments:
            raise ValueError(f"dataset '{name}' is already registered with other arguments: choose another name")
        return
    DatasetCatalog.register(name, partial(load, **arguments))
    MetadataCatalog.get(name).set(
        thing_classes=list(classes), evaluator_type="multilabel", arguments=arguments, expected_images=images
    )


def register_info(name: str, info: DatasetInfo) -> None:
    """Make ``info`` available as ``dataset.name=<name>``; raise ValueError if the name is taken."""
    if _INFOS.setdefault(name, info) != info:
        raise ValueError(f"dataset.name={name} is taken by another dataset: choose another dataset.name for your files")


def list_datasets() -> list[str]:
    """Names that ``dataset.name`` takes."""
    return sorted(_INFOS)


def get_dataset_info(name: str) -> DatasetInfo:
    """Look up ``dataset.name=<name>``; raise a KeyError with similar names if it is unknown."""
    if name not in _INFOS:
        near = difflib.get_close_matches(name, _INFOS, n=2)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(list_datasets())}."
        raise KeyError(
            f"dataset.name={name}: no such dataset; {hint} For your own images set dataset.files.train, "
            "dataset.files.val and dataset.files.test (datasets/README.md)"
        )
    return _INFOS[name]


def get_splits(cfg) -> list[str]:
    """Return the names of a config's splits, without duplicates."""
    return list(dict.fromkeys(cfg.dataset[split] for split in SPLITS))


def get_source_dataset(name: str) -> str:
    """Return the dataset that contains a holdout part and shares its proposal store; otherwise ``name``."""
    return MetadataCatalog.get(name).get("source", name)


def load_holdout(source: str, images: int, holdout: bool) -> Sequence[DatasetDict]:
    """Load the ``images`` held-out images of a dataset or the others, in its order.

    The images with the smallest SHA-256 of their image id are held out: the same on every machine, in any order of the
    files. A dataset without other images is a ValueError.
    """
    records = DatasetCatalog.get(source)
    if len(records) <= images:
        raise ValueError(f"{source} has {len(records)} images, cannot hold out {images}: hold out fewer")
    digests = np.fromiter((_hash_id(image_id) >> 192 for image_id in list_ids(records)), np.uint64, len(records))
    limit = np.partition(digests, images)[images]
    return select_records(records, np.flatnonzero((digests < limit) == holdout))


def register_holdout(source: str, images: int) -> tuple[str, str]:
    """Register ``<source>_fit`` and ``<source>_holdout``, two parts of the registered dataset ``source``.

    Their proposals are in the store of ``source``.

    Args:
        source: registered name.
        images: size of the holdout part.

    Returns:
        Both names.
    """
    whole = MetadataCatalog.get(source)
    total = whole.get("expected_images")
    names = f"{source}_fit", f"{source}_holdout"
    for name, holdout in zip(names, (False, True)):
        expected = images if holdout or total is None else total - images
        arguments = {"source": source, "images": images, "holdout": holdout}
        register(name, load_holdout, arguments, classes=whole.thing_classes, images=expected)
        MetadataCatalog.get(name).set(source=source)
    return names


def get_fold(image_id: int | str, folds: int) -> int:
    """Return the fold of an image: the SHA-256 of its id modulo the number of folds."""
    return _hash_id(image_id) % folds


def _hash_id(image_id: int | str) -> int:
    """Return the SHA-256 of an image id, as a number of 256 bits."""
    return int.from_bytes(hashlib.sha256(str(image_id).encode()).digest(), "big")


def drop_fold(records: Sequence[DatasetDict], fold: int, folds: int) -> Sequence[DatasetDict]:
    """Return the images that are not in a fold."""
    kept = np.fromiter((get_fold(image_id, folds) != fold for image_id in list_ids(records)), bool, len(records))
    return select_records(records, np.flatnonzero(kept))


def load_without_fold(source: str, fold: int, folds: int) -> Sequence[DatasetDict]:
    """Load the images of a dataset without a fold, in its order; ValueError if the fold or the rest is empty."""
    records = DatasetCatalog.get(source)
    kept = drop_fold(records, fold, folds)
    if not 0 < len(kept) < len(records):
        raise ValueError(f"{source} has {len(records)} images, too few for {folds} folds: use fewer folds")
    return kept


def register_without_fold(name: str, leave_out: str) -> str:
    """Register ``<source>_without_<fold>_of_<folds>``, a part of a registered dataset ``source``.

    Its proposals are in the store of ``source``. If ``source`` is not registered, neither is the part.

    Args:
        name: of the source, or of the part, as in the config of a run.
        leave_out: "fold/folds", for example "0/3".

    Returns:
        Name of the part.

    Raises:
        ValueError: ``leave_out`` has another form, or no such fold exists.
    """
    fold, folds = _parse_fold(leave_out)
    source = get_whole_dataset(name, leave_out)
    part = f"{source}_without_{fold}_of_{folds}"
    if source in DatasetCatalog.list():
        arguments = {"source": source, "fold": fold, "folds": folds}
        register(part, load_without_fold, arguments, classes=MetadataCatalog.get(source).thing_classes)
        MetadataCatalog.get(part).set(source=get_source_dataset(source))
    return part


def get_whole_dataset(name: str, leave_out: str | None) -> str:
    """Return the dataset that a part of ``register_without_fold`` is of; ``name`` if it is not such a part."""
    if leave_out is None:
        return name
    fold, folds = _parse_fold(leave_out)
    return name.removesuffix(f"_without_{fold}_of_{folds}")


def _parse_fold(leave_out: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)/(\d+)", leave_out)
    if not match or not int(match[1]) < int(match[2]) or int(match[2]) < 2:
        raise ValueError(f"dataset.leave_out={leave_out}: give fold/folds, from 0/3 to 2/3 for three folds")
    return int(match[1]), int(match[2])


def load_with_unlabelled(labelled: str, unlabelled: str, others: Sequence[str]) -> list[DatasetDict]:
    """Load a dataset, followed by the images of ``unlabelled`` with all labels unknown.

    The image ids of the latter get the prefix ``unlabelled/``. Image files that are also in ``labelled`` or ``others``
    are left out and counted in the log.

    Raises:
        ValueError: an image id is in both, or no unlabelled image is left.
    """
    records = list(DatasetCatalog.get(labelled))
    known = {os.path.realpath(record["file_name"]) for record in records}
    known |= {os.path.realpath(record["file_name"]) for name in others for record in DatasetCatalog.get(name)}
    ids = {str(record["image_id"]) for record in records}
    found = DatasetCatalog.get(unlabelled)
    added = [record for record in found if os.path.realpath(record["file_name"]) not in known]
    if len(added) < len(found):
        count = f"{len(found) - len(added)} of {len(found)}"
        logger.info("%s: %s images are left out, because a labelled split has them", unlabelled, count)
    if not added:
        raise ValueError(f"{unlabelled} has no image that is not in a labelled split: set dataset.files.unlabelled")
    logger.info("%s: %d images without labels are added to %d of %s", unlabelled, len(added), len(records), labelled)
    unknown = list(range(len(MetadataCatalog.get(labelled).thing_classes)))
    for record in added:
        image_id = f"unlabelled/{record['image_id']}"
        if image_id in ids:
            raise ValueError(f"{labelled} has an image with the id {image_id!r}, as {unlabelled} has: rename the image")
        kept = {key: record[key] for key in ("file_name", "height", "width") if key in record}
        records.append(cast(DatasetDict, {**kept, "image_id": image_id, "labels": [], "ignore_labels": unknown}))
    return records


def register_with_unlabelled(labelled: str, unlabelled: str, others: Sequence[str] = ()) -> str:
    """Register ``<labelled>_with_<unlabelled>``, two registered datasets in one, with a proposal store of its own.

    Args:
        labelled: training images with labels.
        unlabelled: further training images, whose labels are not used.
        others: splits whose images are not trained on.

    Returns:
        The name.
    """
    name = f"{labelled}_with_{unlabelled}"
    arguments = {"labelled": labelled, "unlabelled": unlabelled, "others": list(others)}
    register(name, load_with_unlabelled, arguments, classes=MetadataCatalog.get(labelled).thing_classes)
    return name


def get_labelled_dataset(name: str) -> str:
    """Return the labelled one of the two datasets of ``register_with_unlabelled``, any other dataset as it is."""
    return MetadataCatalog.get(name).get("arguments", {}).get("labelled", name)


def keep_labelled(records: list[DatasetDict], source: str) -> list[DatasetDict]:
    """Drop dataset dicts without a label; log their number."""
    kept = [record for record in records if record["labels"]]
    if len(kept) < len(records):
        logger.info("%s: %d of %d images dropped: no label", source, len(records) - len(kept), len(records))
    return kept


def log_faults(records: list[DatasetDict], source: str) -> None:
    """Log how many annotations have which kind of fault, with the first of each."""
    faults = [fault for record in records for fault in record.get("faults", [])]
    for kind, count in Counter(kind for kind, _ in faults).items():
        first = next(text for found, text in faults if found == kind)
        logger.warning("%s: %s (%d); the first: %s", source, kind, count, first)
