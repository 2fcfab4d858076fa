"""Settings that T-WDet and S-Cls read from a YAML config in the same way."""

from __future__ import annotations

from typing import Any

from detectron2.data import MetadataCatalog


def common_settings(cfg) -> dict[str, Any]:
    """Return the arguments of both models for classes and pixels.

    Raises:
        ValueError: MODEL.WEIGHTS is a pickle, which Detectron2 would read without protection, or
            MODEL.IMAGE_LEVEL.NUM_CLASSES is not the number of classes of DATASETS.TRAIN.
    """
    if str(cfg.MODEL.WEIGHTS).endswith((".pkl", ".pickle")):
        raise ValueError(
            f"MODEL.WEIGHTS={cfg.MODEL.WEIGHTS} is a pickle, which can run code: use a .pth file of a training or of "
            "tools/convert_weights.py"
        )
    names, num_classes = train_class_names(cfg), cfg.MODEL.IMAGE_LEVEL.NUM_CLASSES
    if names is not None and len(names) != num_classes:
        raise ValueError(
            f"MODEL.IMAGE_LEVEL.NUM_CLASSES is {num_classes}, and DATASETS.TRAIN has {len(names)} classes: set "
            f"MODEL.IMAGE_LEVEL.NUM_CLASSES to {len(names)}"
        )
    return {
        "num_classes": num_classes,
        "class_names": names,
        "pixel_mean": cfg.MODEL.PIXEL_MEAN,
        "pixel_std": cfg.MODEL.PIXEL_STD,
        "image_format": cfg.INPUT.FORMAT,
    }


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
