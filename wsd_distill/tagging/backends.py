"""What computes the logits of a model folder: ONNX Runtime, or PyTorch. Each is imported when it is chosen."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..io import check_file
from .model_config import INT8, ONNX, WEIGHTS, ModelConfig

Backend = Callable[[np.ndarray], np.ndarray]  # (N, S, S, 3) uint8 RGB -> (N, K) float32
FILES = {"onnx": ONNX, "int8": INT8, "torch": WEIGHTS}


class BackendError(ImportError):
    """A package that the backend needs is not installed."""


def choose_backend(folder: Path) -> str:
    """Return "onnx" if ONNX Runtime is installed and the folder has ``model.onnx``, otherwise "torch"."""
    has_runtime = importlib.util.find_spec("onnxruntime") is not None
    return "onnx" if has_runtime and (folder / ONNX).exists() else "torch"


def load_backend(name: str, folder: Path, config: ModelConfig) -> Backend:
    """Load the file of a backend.

    Raises:
        FileNotFoundError: the folder lacks it.
        ValueError: it is damaged, does not fit ``config``, or there is no such backend.
        BackendError: what the backend needs is not installed.
    """
    if name not in FILES:
        raise ValueError(f"backend={name!r}: choose from {', '.join(FILES)}")
    path = folder / FILES[name]
    if not path.exists():
        hint = "wsd export --int8 writes it" if name == "int8" else "export the model again"
        raise FileNotFoundError(f"{path} does not exist: {hint}")
    check_file(path)
    return _load_torch(path, config) if name == "torch" else load_onnx(path, config)


def load_onnx(path: Path, config: ModelConfig) -> Backend:
    """Load a graph with ONNX Runtime, on a GPU where onnxruntime-gpu is installed."""
    try:
        import onnxruntime
    except ImportError as error:
        raise BackendError(f"{path} needs ONNX Runtime: pip install wsd_distill[onnx]") from error
    wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
    providers = [name for name in wanted if name in onnxruntime.get_available_providers()]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors, which are raised
    options.intra_op_num_threads = count_cores()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # cores are left to decoding threads
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        (image,), (logits,) = session.get_inputs(), session.get_outputs()
    except Exception as error:  # ONNX Runtime's own types, which depend on the damage
        text = str(error).splitlines()[0]
        raise ValueError(f"{path} cannot be loaded by ONNX Runtime ({text}): export the model again") from error
    size, k = config.image_size, len(config.classes)
    if image.shape[1:] != [size, size, 3] or logits.shape[1:] != [k]:
        text = f"{path} maps {image.shape[1:]} to {logits.shape[1:]}, and config.json says {[size, size, 3]} and {[k]}"
        raise ValueError(f"{text}: export the model again")
    return lambda pixels: session.run([logits.name], {image.name: pixels})[0]


def count_cores() -> int:
    """Return the cores that this process may use; 0, ONNX Runtime's default, where the system does not limit them.

    ONNX Runtime itself counts all cores of the machine: in a container or a job with fewer, its threads would compete.
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0


def _load_torch(path: Path, config: ModelConfig) -> Backend:
    try:
        import torch
        from safetensors.torch import load_file

        from .network import PixelNetwork, build_network
    except ImportError as error:
        text = f"{path} needs PyTorch, Detectron2 and safetensors ({error}): see INSTALL.md, or use ONNX Runtime, "
        raise BackendError(text + "pip install wsd_distill[onnx]") from error
    try:
        state = load_file(path)
    except Exception as error:  # SafetensorError, which is a plain Exception
        raise ValueError(f"{path} is damaged ({error}): export the model again") from error
    model = build_network(config)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"{path} does not fit config.json ({error}): export the model again") from error
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return run_torch(PixelNetwork(model).to(device).eval())


def run_torch(network) -> Backend:
    """Return a function that runs a :class:`.network.PixelNetwork` on arrays."""
    import torch

    @torch.no_grad()
    def compute(pixels: np.ndarray) -> np.ndarray:
        return network(torch.from_numpy(pixels).to(network.mean.device)).float().cpu().numpy()

    return compute
