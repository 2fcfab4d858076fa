"""S-Cls as an ONNX file, and the comparison of its probabilities with PyTorch's."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from ..modeling import MultiLabelClassifier
from .backends import Backend, load_onnx, run_torch
from .model_config import ModelConfig
from .network import PixelNetwork
from .tagger import sigmoid

TOLERANCE = 1e-3  # largest difference of probabilities


class ParityError(ValueError):
    """ONNX Runtime and PyTorch give different probabilities."""


def export_onnx(model: MultiLabelClassifier, path: Path, image_size: int) -> None:
    """Write the graph ``pixels`` (N, S, S, 3) uint8 RGB -> ``logits`` (N, K) float32, N free."""
    pixels = torch.zeros(2, image_size, image_size, 3, dtype=torch.uint8)
    with _quiet():
        torch.onnx.export(
            PixelNetwork(copy.deepcopy(model).cpu().float()).eval(),
            (pixels,),
            str(path),
            input_names=["pixels"],
            output_names=["logits"],
            dynamic_shapes={"pixels": {0: torch.export.Dim("N")}},
            external_data=False,
            dynamo=True,
        )


def check_parity(model: MultiLabelClassifier, path: Path, config: ModelConfig, samples: np.ndarray | None) -> float:
    """Compare the file with ``model`` on noise, smooth colours and ``samples``.

    Args:
        samples: (N, S, S, 3) uint8 RGB of photos; None for none.

    Returns:
        The largest difference of uncalibrated and of calibrated probabilities.

    Raises:
        ParityError: it is above ``TOLERANCE``.
    """
    pixels = example_pixels(config.image_size)
    pixels = pixels if samples is None else np.concatenate([pixels, samples])
    network = PixelNetwork(copy.deepcopy(model).cpu().float()).eval()
    difference = largest_difference(run_torch(network), load_onnx(path, config), pixels, config)
    if not difference <= TOLERANCE:
        raise ParityError(
            f"{path.name}: probabilities of ONNX Runtime differ from PyTorch's by {difference:.2g}, more than "
            f"{TOLERANCE:g}, so that nothing was written: install other versions of torch, onnxscript or onnxruntime"
        )
    return difference


def example_pixels(size: int, count: int = 4) -> np.ndarray:
    """Return noise and smooth colours, (2 * count, S, S, 3) uint8."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (count, size, size, 3), np.uint8)
    ramp = np.linspace(0, 1, size)
    corners = rng.uniform(0, 255, (count, 3, 1, 1, 3))
    rows = corners[:, 0] + (corners[:, 1] - corners[:, 0]) * ramp[:, None, None]  # (count, S, 1, 3)
    smooth = rows + (corners[:, 2] - rows) * ramp[:, None]  # (count, S, S, 3)
    return np.concatenate([noise, smooth.round().astype(np.uint8)])


def largest_difference(first: Backend, second: Backend, pixels: np.ndarray, config: ModelConfig) -> float:
    """Return the largest difference of probabilities, with and without calibration; nan if one is nan."""
    found = 0.0
    for start in range(0, len(pixels), 3):  # batches of several sizes
        a, b = (compute(pixels[start : start + 3]).astype(np.float64) for compute in (first, second))
        for scale, offset in ((1.0, 0.0), (config.calibration["scale"], config.calibration["offset"])):
            found = np.maximum(found, np.abs(sigmoid(scale * a + offset) - sigmoid(scale * b + offset)).max())
    return float(found)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide the progress and the warnings of PyTorch's exporter, which concern its own code."""
    names = ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")
    levels = {name: logging.getLogger(name).level for name in names}
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for name in names:
            logging.getLogger(name).setLevel(logging.ERROR)
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
