"""Labels of photos from a model folder, with ONNX Runtime or PyTorch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ..data.image import Photo, open_photo, resize_to_square
from .backends import Backend, choose_backend, load_backend, load_onnx
from .model_config import ModelConfig


class Tagger:
    """A trained multi-label classifier of photos.

    Attributes:
        config: the settings of the model folder.
        classes: names of the K classes, in the order of the outputs.
        thresholds: (K,) probabilities from which a label is given; may be changed.
        backend: "onnx", "int8" or "torch".
    """

    def __init__(self, config: ModelConfig, compute_logits: Backend, backend: str):
        self.config, self.backend = config, backend
        self.classes = list(config.classes)
        self.thresholds = np.array(config.thresholds, dtype=float)
        self._compute_logits = compute_logits

    @classmethod
    def load(cls, folder: str | os.PathLike, backend: str | None = None) -> Tagger:
        """Load a model folder.

        Args:
            folder: written by ``wsd train`` or ``wsd export``.
            backend: "onnx" (ONNX Runtime, ``model.onnx``), "int8" (``model_int8.onnx``) or "torch" (PyTorch and
                Detectron2, ``model.safetensors``); None: "onnx" where ONNX Runtime is installed, otherwise "torch".

        Raises:
            FileNotFoundError: the folder, or the file of the backend, does not exist.
            ValueError: ``config.json`` or the file of the backend is damaged, or there is no such backend.
            ImportError: what the backend needs is not installed.
        """
        config = ModelConfig.read(folder)
        backend = backend or choose_backend(Path(folder))
        return cls(config, load_backend(backend, Path(folder), config), backend)

    @classmethod
    def load_file(cls, path: Path, config: ModelConfig) -> Tagger:
        """Load an ONNX file that ``config`` describes, of any name."""
        return cls(config, load_onnx(path, config), path.stem)

    def read(self, image: Photo) -> np.ndarray:
        """Read a photo as in training.

        Args:
            image: path, bytes of a file, image of Pillow, or (H, W, 3) uint8 RGB.

        Returns:
            (S, S, 3) uint8 RGB.

        Raises:
            ImageError: the file cannot be read as an image; names it.
            ValueError: an array has another shape or type.
        """
        size = self.config.image_size
        pixels = open_photo(image).pixels(min_size=size if self.config.fast_decode else None)
        return resize_to_square(pixels, size)

    def logits(self, pixels: np.ndarray) -> np.ndarray:
        """Compute the logits (N, K) float32 of pixels (N, S, S, 3) uint8 RGB.

        Raises:
            ValueError: the pixels have another shape or type.
        """
        size = self.config.image_size
        if pixels.ndim != 4 or pixels.shape[1:] != (size, size, 3) or pixels.dtype != np.uint8:
            text = f"pixels are {pixels.dtype} {pixels.shape}, expected uint8 (N, {size}, {size}, 3)"
            raise ValueError(f"{text}: stack the results of Tagger.read")
        if not len(pixels):
            return np.zeros((0, len(self.classes)), np.float32)
        return self._compute_logits(np.ascontiguousarray(pixels))

    def probabilities(self, pixels: np.ndarray) -> np.ndarray:
        """Compute the calibrated probabilities (N, K) float32 of pixels (N, S, S, 3) uint8 RGB."""
        a, b = self.config.calibration["scale"], self.config.calibration["offset"]
        return sigmoid(a * self.logits(pixels).astype(np.float64) + b).astype(np.float32)

    def __call__(self, images: Photo | Sequence[Photo], batch_size: int = 32) -> list[dict[str, float]]:
        """Return for each image its labels with their probabilities, from their thresholds on, best first."""
        if isinstance(images, (str, bytes, os.PathLike, Image.Image)) or getattr(images, "ndim", 4) == 3:
            images = [images]  # type: ignore[list-item]
        found: list[dict[str, float]] = []
        for start in range(0, len(images), batch_size):
            pixels = np.stack([self.read(image) for image in images[start : start + batch_size]])
            found += map(self.select, self.probabilities(pixels))
        return found

    def select(self, probabilities: np.ndarray) -> dict[str, float]:
        """Select the labels of (K,) probabilities that reach their thresholds, best first."""
        order = np.argsort(-probabilities, kind="stable")
        return {self.classes[k]: float(probabilities[k]) for k in order if probabilities[k] >= self.thresholds[k]}


def sigmoid(x: np.ndarray) -> np.ndarray:
    """Compute 1 / (1 + exp(-x)) without overflow."""
    return np.exp(-np.logaddexp(0, -x))
