"""Checkpoints that have to fill a model to the last key: a teacher's, and those of models to evaluate."""

from __future__ import annotations

import pickle

import torch
from detectron2.utils.file_io import PathManager
from torch import nn


class CheckpointError(RuntimeError):
    """A checkpoint cannot be read, or does not fill exactly the model's parameters and buffers."""


def load_weights(model: nn.Module, checkpoint: str) -> None:
    """Load ``checkpoint`` into ``model``, every key matched.

    Raises:
        FileNotFoundError: no such file. CheckpointError: names every missing, unexpected or misshapen key,
            or the file where it cannot be read.
    """
    state, own = _read(checkpoint), model.state_dict()
    problems = [f"missing: {key}" for key in own if key not in state]
    problems += [f"unexpected: {key}" for key in state if key not in own]
    problems += [
        f"shape of {key}: {tuple(state[key].shape)} in the file, {tuple(own[key].shape)} in the model"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    if problems:
        raise CheckpointError(f"{checkpoint} does not fit the model of this config:\n  " + "\n  ".join(problems))
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(f"{checkpoint} does not fit the model of this config: {error}") from error


def _read(checkpoint: str) -> dict[str, torch.Tensor]:
    """The weights in a file that Detectron2's checkpointer or ``torch.save`` wrote."""
    path = PathManager.get_local_path(checkpoint) if checkpoint else ""
    if not PathManager.isfile(path):
        raise FileNotFoundError(
            f"The checkpoint {checkpoint!r} is not a file. Give one that a training wrote: T-WDet's as "
            "distiller.teacher_checkpoint=..., that of a model to evaluate as train.init_checkpoint=..."
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        # PyTorch's text stays out: it advises weights_only=False, which lets a file run code.
        text = f"{checkpoint} is no whole checkpoint ({type(error).__name__}): train again, or name another file"
        raise CheckpointError(text) from None
    return content.get("model", content)
