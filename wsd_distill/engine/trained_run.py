"""The trained model of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from detectron2.config import instantiate
from omegaconf import DictConfig

from wsd_distill.modeling.checkpoints.load import load_weights

from .distributed import to_device
from .lazy_config import load_config


def load_trained_run(run: Path) -> tuple[DictConfig, Any]:
    """Load the config of a run and its trained model, in eval mode; without a GPU on the CPU.

    Raises:
        FileNotFoundError: the run has no final checkpoint.
        CheckpointError: the checkpoint is damaged, or of another model.
    """
    weights = run / "model_final.pth"
    if not weights.exists():
        raise FileNotFoundError(f"{weights} does not exist: finish the run first")
    cfg = load_config(str(run / "config.yaml"))
    device = cfg.train.device if torch.cuda.is_available() else "cpu"
    model = to_device(instantiate(cfg.model), device, cfg.train.channels_last)
    load_weights(model, str(weights))
    return cfg, model.eval()
