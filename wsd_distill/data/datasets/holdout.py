"""Validation images held out from a training set."""

from __future__ import annotations

import hashlib

from detectron2.data import DatasetCatalog, MetadataCatalog

from ..types import DatasetDict
from .catalog import register


def load_holdout(source: str, images: int, holdout: bool) -> list[DatasetDict]:
    """Load the ``images`` held-out images of a dataset or the others, in its order.

    The images with the smallest SHA-256 of their image id are held out: the same on every machine, in any order of the
    files. A dataset without other images is a ValueError.
    """
    records = DatasetCatalog.get(source)
    if len(records) <= images:
        raise ValueError(f"{source} has {len(records)} images, cannot hold out {images}: hold out fewer")
    digests = [hashlib.sha256(str(record["image_id"]).encode()).digest() for record in records]
    limit = sorted(digests)[images]
    return [record for record, digest in zip(records, digests) if (digest < limit) == holdout]


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
