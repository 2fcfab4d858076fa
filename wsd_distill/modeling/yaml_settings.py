"""Settings that T-WDet and S-Cls read from a YAML config in the same way."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import urlparse

from detectron2.data import MetadataCatalog
from detectron2.utils.file_io import PathManager

from .checkpoints.load import PICKLES, read_weights


def common_settings(cfg) -> dict[str, Any]:
    """Return the arguments of both models for classes, pixels and weights.

    Raises:
        ValueError: as in ``check_weights``, or MODEL.IMAGE_LEVEL.NUM_CLASSES is not the number of classes of
            DATASETS.TRAIN.
    """
    check_weights(cfg.MODEL.WEIGHTS)
    names, num_classes = train_class_names(cfg), cfg.MODEL.IMAGE_LEVEL.NUM_CLASSES
    if names is not None and len(names) != num_classes:
        raise ValueError(
            f"MODEL.IMAGE_LEVEL.NUM_CLASSES is {num_classes}, and DATASETS.TRAIN has {len(names)} classes: set "
            f"MODEL.IMAGE_LEVEL.NUM_CLASSES to {len(names)}"
        )
    return {
        "num_classes": num_classes,
        "class_names": names,
        "new_layers": cfg.MODEL.IMAGE_LEVEL.NEW_LAYERS,
        "pixel_mean": cfg.MODEL.PIXEL_MEAN,
        "pixel_std": cfg.MODEL.PIXEL_STD,
        "image_format": cfg.INPUT.FORMAT,
    }


def check_weights(weights: str) -> None:
    """Check MODEL.WEIGHTS before Detectron2 reads it, which with PyTorch before 2.6 could run code from it.

    Detectron2 reports a file that does not exist.

    Raises:
        ValueError: it is a pickle, which Detectron2 reads without protection.
        CheckpointError: it cannot be read, or has anything else than weights, numbers and text.
    """
    url = urlparse(weights)
    file = PathManager.get_local_path(url._replace(query="").geturl()) if weights else ""  # as Detectron2 does
    if any(name.lower().endswith(PICKLES) for name in (weights, url.path, file)):
        raise ValueError(
            f"MODEL.WEIGHTS={weights} is a pickle, which can run code: use a .pth file of a training or of "
            "tools/convert_weights.py"
        )
    for path in {file, weights}:  # Detectron2 0.6 does not cut off a query
        if os.path.exists(path):
            read_weights(path)


def train_class_names(cfg) -> list[str] | None:
    """Return ``thing_classes`` of ``cfg.DATASETS.TRAIN``; None if no dataset is set or registered.

    Raises:
        ValueError: the datasets have different classes.
    """
    registered = [name for name in cfg.DATASETS.TRAIN if name in MetadataCatalog.list()]
    lists = [MetadataCatalog.get(name).get("thing_classes") for name in registered]
    lists = [list(names) for names in lists if names]
    if any(names != lists[0] for names in lists):
        raise ValueError(f"DATASETS.TRAIN: {', '.join(registered)} have different classes: train on one of them")
    return lists[0] if lists else None
