"""Datasets by name, in Detectron2's DatasetCatalog and MetadataCatalog."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial

from detectron2.config import instantiate
from detectron2.data import DatasetCatalog, MetadataCatalog

logger = logging.getLogger(__name__)


def register(
    name: str, load: Callable[..., list[dict]], arguments: dict, *, classes: Sequence[str], images: int | None = None
) -> None:
    """Register ``load(**arguments)`` as ``name``, to be called when the dataset is loaded. Twice does no harm.

    Args:
        classes: names of the classes, in the order of their indices.
        images: how many images a whole copy has; None: not known.

    Raises:
        ValueError: the name is taken, by another dataset or by other arguments.
    """
    if name in DatasetCatalog.list():
        before = MetadataCatalog.get(name).get("arguments")
        if before != arguments:
            raise ValueError(f"dataset '{name}' is registered already, otherwise ({before}): choose another name")
        return
    DatasetCatalog.register(name, partial(load, **arguments))
    MetadataCatalog.get(name).set(
        thing_classes=list(classes), evaluator_type="multilabel", arguments=arguments, expected_images=images
    )


def register_from_config(cfg) -> None:
    """Register the datasets that ``dataset.register`` of a LazyConfig describes, before anything asks for them."""
    for call in cfg.dataset.register:
        instantiate(call)


def get_splits(cfg) -> list[str]:
    """Names of the datasets that a LazyConfig trains and evaluates on, each once."""
    return list(dict.fromkeys(cfg.dataset[split] for split in ("train", "val", "test")))


def get_source_dataset(name: str) -> str:
    """The dataset that ``name`` is a part of, for which proposals are made; ``name`` itself where it is a whole."""
    return MetadataCatalog.get(name).get("source", name)


def count_classes(name: str) -> int:
    """K of a registered dataset, for configs that do not know it."""
    return len(MetadataCatalog.get(name).thing_classes)


def keep_labelled(records: list[dict], source: str) -> list[dict]:
    """Those with at least one label; the log counts the others."""
    kept = [record for record in records if record["labels"]]
    if len(kept) < len(records):
        logger.info("%s: %d of %d images dropped: no label", source, len(records) - len(kept), len(records))
    return kept
