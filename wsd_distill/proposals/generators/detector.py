"""Boxes of a trained Detectron2 detector as proposals: the supervised counterpart of EdgeBoxes (Table 5)."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence

import numpy as np
import torch
from detectron2 import model_zoo
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import LazyConfig, get_cfg, instantiate
from detectron2.data import transforms as T
from detectron2.modeling import build_model
from detectron2.utils.file_io import PathManager
from omegaconf import DictConfig, OmegaConf
from torch import nn

from wsd_distill.engine import apply_overrides


class Detector:
    """Callable: image (H, W, 3) uint8 RGB -> boxes (R, 4) XYXY_ABS in its pixels, scores (R,), both float32.

    The boxes of all classes by score, which becomes s_R; R is at most ``max_boxes``. What the detector itself
    leaves out (Detectron2's defaults: scores below 0.05, more than 100 boxes) is a matter of its config and
    ``opts``. Resizing and channel order are those of its tests.

    Args:
        config: YAML file, LazyConfig ``.py`` file, or the name of one in Detectron2's model zoo, where its
            configs are installed.
        weights: checkpoint file, or an address that Detectron2 can fetch.
        opts: ``KEY value`` pairs for YAML, ``key=value`` for a LazyConfig.
        max_boxes: how many boxes to keep of an image.
        device: of PyTorch; None takes the GPU if there is one.

    Raises:
        FileNotFoundError: no such config or weights.
        ValueError: the weights leave a parameter of the model unset.
    """

    name = "detector"
    in_workers = False  # one copy of the model, on one device

    def __init__(
        self,
        config: str,
        weights: str,
        opts: Sequence[str] = (),
        max_boxes: int = 100,
        device: str | None = None,
    ) -> None:
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        build = _from_lazy_config if config.endswith(".py") else _from_yaml
        self._model, self._augmentations, self._format, text = build(_config_file(config), list(opts), device)
        file = _weights_file(weights)
        _StrictCheckpointer(self._model).load(file)
        self._model.eval()
        self._max_boxes = max_boxes
        self.parameters = {
            "max_boxes": max_boxes,
            "config": os.path.basename(config),
            "config sha256": hashlib.sha256(text.encode()).hexdigest()[:12],
            "weights": os.path.basename(weights),
            "weights sha256": _hash_of(file),
        }

    @torch.no_grad()
    def __call__(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        height, width = image.shape[:2]
        view = T.AugInput(image[:, :, ::-1] if self._format == "BGR" else image)
        self._augmentations(view)
        pixels = torch.as_tensor(np.ascontiguousarray(view.image.transpose(2, 0, 1)).astype(np.float32))
        found = self._model([{"image": pixels, "height": height, "width": width}])[0]["instances"]
        order = found.scores.argsort(descending=True, stable=True)[: self._max_boxes]
        return found.pred_boxes.tensor[order].float().cpu().numpy(), found.scores[order].float().cpu().numpy()


class _StrictCheckpointer(DetectionCheckpointer):
    """Detectron2's knowledge of checkpoint formats, without its leniency: it merely warns of what stays random."""

    def _load_file(self, filename: str) -> dict:
        self._file = filename
        return super()._load_file(filename)

    def _load_model(self, checkpoint: dict):
        incompatible = super()._load_model(checkpoint)
        problems = [f"missing: {key}" for key in incompatible.missing_keys]
        problems += [
            f"shape of {key}: {tuple(found)} in the file, {tuple(wanted)} in the model"
            for key, found, wanted in incompatible.incorrect_shapes
        ]
        if problems:
            # The first line is all that tools print.
            raise ValueError(f"{self._file} does not fit the detector of this config: " + "\n  ".join(problems))
        return incompatible


def _from_yaml(file: str, opts: list[str], device: str) -> tuple[nn.Module, T.AugmentationList, str, str]:
    """Model, its test's augmentations, its channel order, and the text of the config."""
    cfg = get_cfg()
    cfg.merge_from_file(file)
    cfg.merge_from_list(opts)
    cfg.MODEL.WEIGHTS, cfg.MODEL.DEVICE = "", "cpu"  # neither is part of what the detector is
    text = cfg.dump()
    cfg.MODEL.DEVICE = device
    resize = T.ResizeShortestEdge([cfg.INPUT.MIN_SIZE_TEST] * 2, cfg.INPUT.MAX_SIZE_TEST)
    return build_model(cfg), T.AugmentationList([resize]), cfg.INPUT.FORMAT, text


def _from_lazy_config(file: str, opts: list[str], device: str) -> tuple[nn.Module, T.AugmentationList, str, str]:
    cfg = apply_overrides(LazyConfig.load(file), opts)
    mapper = _test_mapper(cfg.dataloader.test)
    augmentations = [instantiate(augmentation) for augmentation in mapper.augmentations]
    text = json.dumps([OmegaConf.to_container(node, resolve=True) for node in (cfg.model, mapper)], default=_name)
    return instantiate(cfg.model).to(device), T.AugmentationList(augmentations), mapper.image_format, text


def _test_mapper(test: DictConfig) -> DictConfig:
    """Detectron2's configs have one test loader, those of this project one for each split, all with the same view."""
    return test.mapper if "mapper" in test else next(iter(test.values())).loader.mapper


def _name(target: object) -> str:
    """Of a class or function that a LazyConfig calls; the same in every process, which its ``repr`` is not."""
    return f"{target.__module__}.{target.__qualname__}" if callable(target) else repr(target)


def _config_file(config: str) -> str:
    if not config:
        raise FileNotFoundError("the detector has no config: give a file, or a name in Detectron2's model zoo")
    if os.path.isfile(config):
        return config
    try:
        return model_zoo.get_config_file(config)
    except RuntimeError as error:
        raise FileNotFoundError(f"{config} is neither a file nor in the model zoo of this Detectron2") from error


def _weights_file(weights: str) -> str:
    file = PathManager.get_local_path(weights) if weights else ""
    if not os.path.isfile(file):
        raise FileNotFoundError(f"the detector's weights {weights!r} are not a file: give those it was trained to")
    return file


def _hash_of(file: str) -> str:
    digest = hashlib.sha256()
    with open(file, "rb") as content:
        while block := content.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:12]
