"""Reading of weights without running code from the file; strict loading for teachers and for models to evaluate."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.utils.file_io import PathManager
from torch import Tensor, nn

from wsd_distill.class_names import read_class_names
from wsd_distill.io import check_file
from wsd_distill.pickles import load_pickle

PICKLES = (".pkl", ".pickle")


class CheckpointError(ValueError):
    """A file of weights cannot be read or does not match the model exactly."""


def load_weights(model: nn.Module, checkpoint: str, *, trained: bool = True) -> None:
    """Load ``checkpoint`` into ``model``; all keys and shapes, and the class names of T-WDet and S-Cls, must match.

    With ``trained=False`` ImageNet weights are accepted too, which leave the classification layers random.

    Raises:
        FileNotFoundError: The file does not exist.
        CheckpointError: The file cannot be read, the classes differ, or keys are missing, unexpected or of another
            shape (all are listed).
    """
    load_state(model, read_state(checkpoint), checkpoint, trained=trained)


def load_state(model: nn.Module, state: dict[str, Tensor], checkpoint: str, *, trained: bool = True) -> None:
    """Load what ``read_state(checkpoint)`` has read, as :func:`load_weights`."""
    with wrap_mismatch(checkpoint):
        model.load_state_dict(state, strict=trained)


def get_class_names(state: dict[str, Tensor], checkpoint: str) -> list[str]:
    """Return the class names of a trained T-WDet or S-Cls; CheckpointError if the weights have none."""
    try:
        names = read_class_names(state)
    except ValueError as error:
        raise CheckpointError(f"{checkpoint}: {error}") from error
    if not names:
        raise CheckpointError(
            f"{checkpoint} has no class names: give the checkpoint of a training, or add the classes that it was "
            "trained with by tools/convert_weights.py checkpoint --classes"
        )
    return names


def read_state(checkpoint: str) -> dict[str, Tensor]:
    """Read the weights of a model: a path, or an address that Detectron2 can download.

    Raises:
        FileNotFoundError: The file does not exist.
        CheckpointError: The file cannot be read or has no weights.
    """
    content = read_weights(find_weights(checkpoint))
    return get_state(content, checkpoint)


def get_state(content: Any, checkpoint: str) -> dict[str, Tensor]:
    """Return the ``state_dict`` in the content of a file; CheckpointError if there is none."""
    state = content.get("model", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{checkpoint} has no weights (a dict of tensors, or such a dict as 'model')")
    return state


def hash_state(state: Mapping[str, Tensor]) -> str:
    """Hash names, types, shapes and values of weights (32 digits): equal for equal weights, whatever file has them."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def find_weights(checkpoint: str, missing: str | None = None) -> str:
    """Return the local file of a path or an address, downloaded if need be.

    Args:
        checkpoint: the path or address.
        missing: text of the error if the file does not exist; None: that of a checkpoint of a training.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: It is a folder, pipe or device, or too large (``check_file``).
    """
    path = PathManager.get_local_path(os.path.expanduser(checkpoint)) if checkpoint else ""
    if not os.path.exists(path):
        default = (
            f"checkpoint {checkpoint!r} does not exist: train the model first, or set the file of one that is trained "
            "(train.init_checkpoint, distiller.teacher_checkpoint or --weights)"
        )
        raise FileNotFoundError(missing or default)
    check_file(path)
    return path


def read_weights(path: str | Path) -> dict:
    """Read a file of ``torch.save``, or a ``.pkl`` of NumPy arrays as in Detectron2's model zoo.

    No code from the file is run. Checksums are verified, which PyTorch does not do.

    Raises:
        FileNotFoundError: The file does not exist.
        CheckpointError: The file is damaged or has anything else than weights, numbers and text.
        ValueError: It is a folder, pipe or device, or too large (``check_file``).
    """
    check_file(path)
    if str(path).lower().endswith(PICKLES):
        content = load_pickle(path)
        with wrap_load_errors(path):  # nested too deeply
            return _to_tensors(content)
    with wrap_load_errors(path):
        check_zip(path)
        return torch.load(path, map_location="cpu", weights_only=True)


def check_zip(path: str | Path) -> None:
    """Check the zip file that ``torch.save`` writes; other files are left to their reader.

    Raises:
        CheckpointError: An entry is compressed, which ``torch.save`` never does, or has another checksum, or the
            entries are together larger than the file. A small file could otherwise fill the memory.
    """
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as file:
        entries = file.infolist()
        if any(x.compress_type != zipfile.ZIP_STORED or x.compress_size != x.file_size for x in entries):
            raise CheckpointError(f"{path} is compressed, unlike files of torch.save: write it again with torch.save")
        if sum(x.file_size for x in entries) > os.path.getsize(path):
            raise CheckpointError(f"{path} declares more data than it has: write it again with torch.save")
        damaged = file.testzip()
    if damaged is not None:
        raise CheckpointError(f"{path} is damaged (checksum of {damaged}): copy or write it again")


def _to_tensors(content: Any) -> Any:
    """Convert the NumPy arrays of nested dicts to tensors."""
    if isinstance(content, dict):
        return {key: _to_tensors(value) for key, value in content.items()}
    is_array = isinstance(content, (np.ndarray, np.generic)) and content.dtype.kind in "fiub"
    return torch.from_numpy(np.array(content)) if is_array else content


@contextmanager
def wrap_mismatch(checkpoint: str, hint: str = "") -> Iterator[None]:
    """Replace the RuntimeError of ``load_state_dict`` by a CheckpointError of one line that names the file."""
    try:
        yield
    except RuntimeError as error:
        text = " ".join(str(error).split())
        raise CheckpointError(f"{checkpoint} does not fit the model of this config: {text}{hint}") from error


@contextmanager
def name_key(key: str) -> Iterator[None]:
    """Begin a CheckpointError or FileNotFoundError with the key of the config that has the file."""
    try:
        yield
    except (CheckpointError, FileNotFoundError) as error:
        raise type(error)(f"{key}: {error}") from error


@contextmanager
def wrap_load_errors(path: str | Path | None) -> Iterator[None]:
    """Replace PyTorch's error, which suggests weights_only=False, by a CheckpointError that names the file."""
    try:
        yield
    except (FileNotFoundError, PermissionError, CheckpointError):
        raise
    except Exception as error:  # the exception for invalid files depends on their content
        raise CheckpointError(
            f"{path} is truncated or not a file of PyTorch tensors and plain values ({type(error).__name__}): write it "
            "again, or use a file of the right format"
        ) from None
