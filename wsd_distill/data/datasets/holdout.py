"""A part of a training set that is kept for validation, where a dataset has only training and test images."""

from __future__ import annotations

import hashlib

from detectron2.data import DatasetCatalog, MetadataCatalog

from .catalog import register


def load_holdout(source: str, images: int, holdout: bool) -> list[dict]:
    """The ``images`` dataset dicts of ``source`` whose image id has the least SHA-256, or all others, in its order.

    Which they are does not depend on the machine, nor on the order of the files.

    Raises:
        ValueError: ``source`` has no more images than are to be held out.
    """
    records = DatasetCatalog.get(source)
    if len(records) <= images:
        raise ValueError(f"{source} has {len(records)} images, but {images} are to be held out: hold out fewer")
    digests = [hashlib.sha256(str(record["image_id"]).encode()).digest() for record in records]
    bar = sorted(digests)[images]
    return [record for record, digest in zip(records, digests) if (digest < bar) == holdout]


def register_holdout(name: str, source: str, images: int, holdout: bool) -> None:
    """Register a part of the registered dataset ``source``, for configs; arguments as :func:`load_holdout`.

    Its proposals are those of ``source``: one store serves training, validation and a training on all images.
    """
    whole = MetadataCatalog.get(source)
    total = whole.get("expected_images")
    expected = images if holdout or total is None else total - images
    arguments = {"source": source, "images": images, "held_out": holdout}
    register(name, load_holdout, arguments, classes=whole.thing_classes, images=expected)
    MetadataCatalog.get(name).set(source=source)
