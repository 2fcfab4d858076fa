"""Write a model folder. Needs PyTorch, Detectron2 and the extra ``export``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig
from safetensors.torch import save

from .. import __version__
from ..io import replace_folder
from ..modeling import MultiLabelClassifier
from .card import write_card
from .model_config import CARD, CONFIG, INT8, ONNX, WEIGHTS, ModelConfig
from .network import describe_network
from .onnx_export import check_parity, export_onnx

PARTS = {CONFIG, WEIGHTS, ONNX, INT8, CARD}


def make_config(
    cfg: DictConfig,
    model: MultiLabelClassifier,
    *,
    thresholds: float | Sequence[float] = 0.5,
    calibration: tuple[float, float] = (1.0, 0.0),
    metrics: dict[str, Any] | None = None,
    data_hash: str = "",
) -> ModelConfig:
    """Return the settings of a trained S-Cls.

    Args:
        cfg: config of its run: the network, and the size and decoding of the images of ``dataloader.test``.
        model: the trained model, for its class names and pixel statistics.
        thresholds: one for all classes, or one for each, on calibrated probabilities.
        calibration: Platt's scale and offset.
        metrics, data_hash: as in :class:`.ModelConfig`.

    Raises:
        ValueError: the network cannot be part of a model folder, or a value is wrong.
    """
    names = list(model.class_names or [])
    mapper = cfg.dataloader.test[next(iter(cfg.dataloader.test))].loader.mapper
    values = [thresholds] * len(names) if isinstance(thresholds, (int, float)) else thresholds
    return ModelConfig(
        classes=names,
        thresholds=[float(x) for x in values],
        calibration={"scale": float(calibration[0]), "offset": float(calibration[1])},
        image_size=int(mapper.sizes[0]),
        fast_decode=bool(mapper.fast_decode),
        backbone=describe_network(cfg.model),
        pixel_mean=model.pixel_mean.flatten().tolist(),
        pixel_std=model.pixel_std.flatten().tolist(),
        image_format=model.image_format,
        versions={"wsd_distill": __version__, **_versions("torch", "timm", "onnx", "onnxscript", "onnxruntime")},
        data_hash=data_hash,
        metrics=metrics or {},
    ).check()


def _versions(*packages: str) -> dict[str, str]:
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # it is imported from a folder
            found[package] = "unknown"
    return found


def save_model_folder(
    model: MultiLabelClassifier,
    config: ModelConfig,
    folder: str | os.PathLike,
    *,
    samples: np.ndarray | None = None,
    replace: bool = False,
) -> float:
    """Write ``folder``, whole or not at all: weights, ONNX graph, ``config.json`` and model card.

    Args:
        model: a trained S-Cls that ``config`` describes.
        samples: (N, S, S, 3) uint8 RGB of photos for the parity check.
        replace: replace a model folder that exists.

    Returns:
        The largest difference between the probabilities of ONNX Runtime and PyTorch.

    Raises:
        FileExistsError: ``folder`` exists and is not an empty folder or a model folder to be replaced.
        ParityError: ONNX Runtime and PyTorch give different probabilities; nothing is written.
    """
    with replace_folder(Path(folder), PARTS if replace else set()) as tmp_path:
        state = {key: value.detach().cpu().contiguous().clone() for key, value in model.state_dict().items()}
        (tmp_path / WEIGHTS).write_bytes(save(state))  # save_file leaves it unreadable for others
        export_onnx(model, tmp_path / ONNX, config.image_size)
        config.write(tmp_path / CONFIG)
        difference = check_parity(model, tmp_path / ONNX, config, samples)
        write_card(tmp_path / CARD, config)
    return difference
