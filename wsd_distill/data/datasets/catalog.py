"""Datasets by name: in Detectron2's catalogs, and what configs take from ``dataset.name``."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog

logger = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class DatasetInfo:
    """What a recipe takes from a dataset.

    Attributes:
        train, val, test: registered names. ``val`` may be ``test``, where a dataset has two splits only.
        flip_prob: probability of a horizontal flip in training; 0 where mirrored images change their class.
        boxes: whether annotations have boxes, so that detections can be evaluated.
        t_teacher, t_student: temperatures of soft labels that the paper gives for it (Section 4.2).
        edge_boxes: parameters of EdgeBoxes that differ from the defaults.
        recipe: folder in ``configs`` that tools/reproduce.py takes unless told otherwise.
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
    name: str, load: Callable[..., list[dict]], arguments: dict, *, classes: Sequence[str], images: int | None = None
) -> None:
    """Register the split ``name``: ``load(**arguments)`` is called when it is loaded. Twice is the same as once.

    Args:
        classes: names of the classes, in the order of their indices.
        images: number of images of a complete copy; None: unknown.

    Raises:
        ValueError: the name is taken, by another dataset or by other arguments.
    """
    if name in DatasetCatalog.list():
        before = MetadataCatalog.get(name).get("arguments")
        if before != arguments:
            raise ValueError(f"dataset '{name}' is already registered with other arguments ({before}): rename yours")
        return
    DatasetCatalog.register(name, partial(load, **arguments))
    MetadataCatalog.get(name).set(
        thing_classes=list(classes), evaluator_type="multilabel", arguments=arguments, expected_images=images
    )


def register_info(name: str, info: DatasetInfo) -> None:
    """Let ``dataset.name=<name>`` choose the registered splits and settings of ``info``.

    Raises:
        ValueError: the name is taken by another dataset.
    """
    if _INFOS.setdefault(name, info) != info:
        raise ValueError(f"dataset.name={name} is already taken ({_INFOS[name]}): choose another name")


def get_dataset_info(name: str) -> DatasetInfo:
    """Look up what ``dataset.name=<name>`` stands for.

    Raises:
        KeyError: unknown name; lists near ones.
    """
    if name not in _INFOS:
        near = difflib.get_close_matches(name, _INFOS, n=2)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(sorted(_INFOS))}."
        raise KeyError(
            f"dataset.name={name}: no such dataset; {hint} For your own images set dataset.files.train, "
            "dataset.files.val and dataset.files.test (datasets/README.md)"
        )
    return _INFOS[name]


def list_datasets() -> list[str]:
    """Names that ``dataset.name`` takes."""
    return sorted(_INFOS)


def get_splits(cfg) -> list[str]:
    """Names of the splits that a config trains and evaluates on, each once."""
    return list(dict.fromkeys(cfg.dataset[split] for split in SPLITS))


def get_source_dataset(name: str) -> str:
    """The dataset that ``name`` is a holdout part of, whose proposal store it shares; ``name`` itself otherwise."""
    return MetadataCatalog.get(name).get("source", name)


def keep_labelled(records: list[dict], source: str) -> list[dict]:
    """Drop dataset dicts without a label; log their number."""
    kept = [record for record in records if record["labels"]]
    if len(kept) < len(records):
        logger.info("%s: %d of %d images dropped: no label", source, len(records) - len(kept), len(records))
    return kept
