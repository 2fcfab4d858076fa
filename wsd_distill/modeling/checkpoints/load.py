"""Strict loading of checkpoints, for teachers and for models to evaluate."""

from __future__ import annotations

import pickle

import torch
from detectron2.utils.file_io import PathManager
from torch import nn


class CheckpointError(RuntimeError):
    """A checkpoint cannot be read or does not match the model exactly."""


def load_weights(model: nn.Module, checkpoint: str) -> None:
    """Load ``checkpoint`` into ``model``; all keys and shapes must match.

    Raises:
        FileNotFoundError: The file does not exist.
        CheckpointError: The file cannot be read, or keys are missing, unexpected or of another shape (all are listed).
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
    """Read the weights of a file written by Detectron2's checkpointer or ``torch.save``."""
    path = PathManager.get_local_path(checkpoint) if checkpoint else ""
    if not PathManager.isfile(path):
        raise FileNotFoundError(
            f"checkpoint {checkpoint!r} does not exist: set distiller.teacher_checkpoint to a checkpoint of T-WDet, or "
            "train.init_checkpoint to that of the model to evaluate"
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        # PyTorch's message is dropped: it suggests weights_only=False, which lets a file run code.
        raise CheckpointError(
            f"{checkpoint} is truncated or not a valid checkpoint ({type(error).__name__}): train again or use another "
            "file"
        ) from None
    return content.get("model", content)
