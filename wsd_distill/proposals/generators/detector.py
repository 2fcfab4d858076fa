"""Detections of a trained Detectron2 model as proposals (Table 5)."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2 import model_zoo
from detectron2.checkpoint.c2_model_loading import align_and_update_state_dicts
from detectron2.config import LazyConfig, get_cfg, instantiate
from detectron2.data import transforms as T
from detectron2.modeling import build_model
from omegaconf import OmegaConf
from torch import nn

from wsd_distill.engine import apply_overrides, load_config
from wsd_distill.modeling.checkpoints.load import PICKLES, find_weights, get_state, read_weights

from ...data.types import Proposals
from .proposer import Proposer


@dataclass
class _LoadedDetector:
    model: nn.Module
    augmentations: T.AugmentationList
    image_format: str
    config_text: str  # everything the detections depend on, except the weights


class DetectorProposer(Proposer):
    """Detections of all classes, with their score as s_R.

    Images are resized as in the detector's test. Its config and ``opts`` set the detections that it drops itself
    (Detectron2's defaults: scores below 0.05, more than 100 boxes).

    The files are read on first use, so that a model with this proposer can be built without them.

    Args:
        config: a LazyConfig ``.py`` file, the ``config.yaml`` saved by a training with a LazyConfig, a Detectron2 YAML
            file, or the name of a config in Detectron2's model zoo.
        weights: checkpoint, a file or a URL that Detectron2 can download.
        opts: overrides of the config: ``key=value`` for a LazyConfig, ``KEY value`` pairs for a Detectron2 YAML file.
        max_boxes: maximum number of boxes per image.
        device: PyTorch device; None uses the GPU if there is one.
    """

    name = "detector"
    in_workers = False  # one copy of the model on one device

    def __init__(
        self, config: str, weights: str, opts: Sequence[str] = (), max_boxes: int = 100, device: str | None = None
    ) -> None:
        self.config, self.weights, self.opts = config, weights, list(opts)
        self.max_boxes, self.device = max_boxes, device
        self._detector: _LoadedDetector | None = None
        self._parameters: dict[str, Any] = {}

    def load(self) -> _LoadedDetector:
        """Build the detector and load its weights, once.

        Raises:
            FileNotFoundError: the config or the weights are missing.
            ValueError: the weights cannot be read, or do not set all parameters of the detector.
        """
        if self._detector is None:
            config_file = _find_config(self.config)
            build = _build_from_lazy_config if _is_lazy_config(config_file) else _build_from_yaml
            detector = build(config_file, self.opts, self.device or ("cuda" if torch.cuda.is_available() else "cpu"))
            missing = f"the detector's weights {self.weights!r} are not a file: set its trained checkpoint"
            weights_file = find_weights(self.weights, missing)
            _load_all_weights(detector.model, weights_file)
            detector.model.eval()
            self._parameters = {
                "max_boxes": self.max_boxes,
                "config": os.path.basename(self.config),
                "config sha256": hashlib.sha256(detector.config_text.encode()).hexdigest()[:12],
                "weights": os.path.basename(self.weights),
                "weights sha256": hashlib.sha256(Path(weights_file).read_bytes()).hexdigest()[:12],
            }
            self._detector = detector
        return self._detector

    def prepare(self) -> None:
        self.load()

    @property
    def parameters(self) -> dict[str, Any]:
        self.load()
        return self._parameters

    @torch.no_grad()
    def __call__(self, image: np.ndarray) -> Proposals:
        detector = self.load()
        height, width = image.shape[:2]
        view = T.AugInput(image[:, :, ::-1] if detector.image_format == "BGR" else image)
        detector.augmentations(view)
        pixels = torch.as_tensor(np.ascontiguousarray(view.image.transpose(2, 0, 1)).astype(np.float32))
        instances = detector.model([{"image": pixels, "height": height, "width": width}])[0]["instances"]
        order = instances.scores.argsort(descending=True, stable=True)[: self.max_boxes]
        boxes, scores = instances.pred_boxes.tensor[order], instances.scores[order]
        return boxes.float().cpu().numpy(), scores.float().cpu().numpy()


def _load_all_weights(model: nn.Module, file: str) -> None:
    """Load a checkpoint of Detectron2 or of its model zoos; raise ValueError if it is incomplete.

    Unlike Detectron2's checkpointer, this runs no code from the file and does not skip missing parameters.
    """
    own, found = model.state_dict(), _read_state(file, model)
    optional = ("pixel_mean", "pixel_std", "num_batches_tracked")  # absent from older files
    fitting = {name: found[name] for name in own if name in found and found[name].shape == own[name].shape}
    unset = []
    for name, value in own.items():
        if name not in fitting and not name.endswith(optional):
            instead = f", in the file {tuple(found[name].shape)}" if name in found else ""
            unset.append(f"{name} {tuple(value.shape)}{instead}")
    if unset:
        text = "missing or of another shape in the file: " + "\n  ".join(unset)  # tools print the first line only
        raise ValueError(f"{file} does not fit the detector of this config: {text}")
    model.load_state_dict(fitting, strict=False)


def _read_state(file: str, model: nn.Module) -> dict[str, torch.Tensor]:
    """Read weights; those of Caffe2's model zoo, pickles without an author, get the names of ``model``."""
    content = read_weights(file)
    if not file.endswith(PICKLES) or (isinstance(content, dict) and "__author__" in content):
        return get_state(content, file)
    blobs = content.get("blobs", content) if isinstance(content, dict) else {}
    weights = {name: x for name, x in blobs.items() if isinstance(x, torch.Tensor) and not name.endswith("_momentum")}
    return align_and_update_state_dicts(model.state_dict(), get_state(weights, file), c2_conversion=True)


def _is_lazy_config(file: str) -> bool:
    """Return False for a Detectron2 YAML file, whose model section is MODEL."""
    return file.endswith(".py") or "\nmodel:" in "\n" + Path(file).read_text(encoding="utf-8")


def _build_from_yaml(file: str, opts: list[str], device: str) -> _LoadedDetector:
    cfg = get_cfg()
    cfg.merge_from_file(file)
    cfg.merge_from_list(opts)
    cfg.MODEL.WEIGHTS, cfg.MODEL.DEVICE = "", "cpu"  # without influence on config_text
    text = cfg.dump()
    cfg.MODEL.DEVICE = device
    resize = T.ResizeShortestEdge([cfg.INPUT.MIN_SIZE_TEST] * 2, cfg.INPUT.MAX_SIZE_TEST)
    return _LoadedDetector(build_model(cfg), T.AugmentationList([resize]), cfg.INPUT.FORMAT, text)


def _build_from_lazy_config(file: str, opts: list[str], device: str) -> _LoadedDetector:
    cfg = LazyConfig.load(file)
    # A config of this project needs its dataset resolved; Detectron2's own have none.
    cfg = load_config(file, opts) if "dataset" in cfg else apply_overrides(cfg, opts)
    test = cfg.dataloader.test  # one test loader, or one per split
    mapper = test.mapper if "mapper" in test else next(iter(test.values())).loader.mapper
    augmentations = T.AugmentationList([instantiate(augmentation) for augmentation in mapper.augmentations])
    nodes = [OmegaConf.to_container(node, resolve=True) for node in (cfg.model, mapper)]
    text = json.dumps(nodes, default=_qualified_name)
    return _LoadedDetector(instantiate(cfg.model).to(device), augmentations, mapper.image_format, text)


def _qualified_name(target: Any) -> str:
    """Name a callable; unlike ``repr``, the result is the same in every process."""
    return f"{target.__module__}.{target.__qualname__}" if callable(target) else repr(target)


def _find_config(config: str) -> str:
    if not config:
        raise FileNotFoundError("the detector has no config: set a file or a name in Detectron2's model zoo")
    if os.path.isfile(config):
        return config
    try:
        return model_zoo.get_config_file(config)
    except RuntimeError as error:
        raise FileNotFoundError(f"{config} is neither a file nor in Detectron2's model zoo") from error
