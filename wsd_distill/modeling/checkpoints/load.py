"""Reading of weights; strict loading for teachers and for models to evaluate."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from detectron2.utils.file_io import PathManager
from torch import nn


class CheckpointError(ValueError):
    """A file of weights cannot be read or does not match the model exactly."""


def load_weights(model: nn.Module, checkpoint: str) -> None:
    """Load ``checkpoint`` into ``model``; all keys and shapes must match.

    Raises:
        FileNotFoundError: The file does not exist.
        CheckpointError: The file cannot be read, or keys are missing, unexpected or of another shape (all are listed).
    """
    path = PathManager.get_local_path(checkpoint) if checkpoint else ""
    if not PathManager.isfile(path):
        raise FileNotFoundError(
            f"checkpoint {checkpoint!r} does not exist: set distiller.teacher_checkpoint to a checkpoint of T-WDet, or "
            "train.init_checkpoint to a checkpoint of the model to evaluate"
        )
    content = read_weights(path)
    try:
        model.load_state_dict(content.get("model", content))
    except RuntimeError as error:
        raise CheckpointError(f"{checkpoint} does not fit the model of this config: {error}") from error


def read_weights(path: str | Path) -> dict:
    """Read a file of ``torch.save`` or of Detectron2's checkpointer; CheckpointError if it is not valid."""
    with wrap_load_errors(path):
        return torch.load(path, map_location="cpu", weights_only=True)


@contextmanager
def wrap_load_errors(path: str | Path | None) -> Iterator[None]:
    """Replace PyTorch's error, which suggests weights_only=False, by a CheckpointError that names the file."""
    try:
        yield
    except (FileNotFoundError, PermissionError):
        raise
    except Exception as error:  # the exception for invalid files depends on their content
        raise CheckpointError(
            f"{path} is truncated or not a valid file of PyTorch weights ({type(error).__name__}): write it again, or "
            "use a file of the right format"
        ) from None
