"""``model_int8.onnx``: static quantization per channel, calibrated and measured on labelled photos.

Needs the extras ``export`` and ``train``, the latter for the metric.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from ..evaluation.metrics import average_precisions, mean_of_classes
from ..io import atomic_write
from .card import write_card
from .model_config import CARD, CONFIG, GRAPH_KEYS, INT8, ONNX
from .tagger import Tagger

BATCH = 16


class LossError(ValueError):
    """The int8 model loses more mAP than is allowed."""


@dataclass(frozen=True)
class Measurement:
    """Size in megabytes, images per second of the network alone, and mAP in percent of a graph."""

    megabytes: float
    images_per_second: float
    mean_ap: float

    def as_dict(self) -> dict[str, float]:
        """Return the values as ``config.json`` has them."""
        values = round(self.megabytes, 3), round(self.images_per_second, 1), round(self.mean_ap, 2)
        return dict(zip(GRAPH_KEYS, values))

    def __str__(self) -> str:
        return f"{self.megabytes:.1f} MB, {self.images_per_second:.0f} images/s, mAP {self.mean_ap:.2f}"


class _Reader(CalibrationDataReader):
    def __init__(self, pixels: np.ndarray):
        count = len(pixels) - len(pixels) % BATCH or len(pixels)  # histograms need batches of one size
        self._batches = _batches(pixels[:count])

    def get_next(self):
        batch = next(self._batches, None)
        return None if batch is None else {"pixels": batch}


def quantize(
    folder: Path, photos: Sequence[str], labels: np.ndarray, *, max_map_drop: float, num_calibration: int = 64
) -> dict[str, Measurement]:
    """Write ``model_int8.onnx`` in a model folder if it loses little, and the measurements into config and model card.

    Args:
        photos: N files.
        labels: (N, K): 1 = positive, 0 = negative, -1 = ignored.
        max_map_drop: largest loss of mAP, in percent.
        num_calibration: photos, evenly spaced, whose activations set the ranges.

    Returns:
        Measurements of ``model.onnx`` and ``model_int8.onnx``.

    Raises:
        ValueError: there are no photos, or no class has a positive.
        LossError: the mAP falls by more; nothing is written.
    """
    if not len(photos) or not (labels == 1).any():
        raise ValueError("no photo has a label: give labelled photos, on which the loss of mAP can be measured")
    tagger = Tagger.load(folder, "onnx")
    pixels = np.stack([tagger.read(photo) for photo in photos])
    chosen = pixels[np.unique(np.linspace(0, len(pixels) - 1, min(num_calibration, len(pixels))).astype(int))]
    found = {ONNX: _measure(tagger, folder / ONNX, pixels, labels)}
    with atomic_write(folder / INT8) as tmp_path:
        _quantize(folder / ONNX, tmp_path, chosen)
        found[INT8] = _measure(Tagger.load_file(tmp_path, tagger.config), tmp_path, pixels, labels)
        drop = found[ONNX].mean_ap - found[INT8].mean_ap
        if not drop <= max_map_drop:
            raise LossError(
                f"int8 loses {drop:.2f} of mAP ({found[ONNX]}; int8: {found[INT8]}), more than --max-map-drop "
                f"{max_map_drop:g}: {folder / INT8} was not written; use {ONNX}, or allow more"
            )
    config = replace(tagger.config, graphs={name: x.as_dict() for name, x in found.items()})
    config.write(folder / CONFIG)
    write_card(folder / CARD, config)
    return found


def _quantize(source: Path, target: Path, pixels: np.ndarray) -> None:
    logging.disable(logging.WARNING)  # hints of ONNX Runtime on its own API
    try:
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            _quantize_in(Path(folder), source, target, pixels)
    finally:
        logging.disable(logging.NOTSET)


def _quantize_in(folder: Path, source: Path, target: Path, pixels: np.ndarray) -> None:
    prepared = str(folder / ONNX)
    quant_pre_process(str(source), prepared, skip_symbolic_shape=True)
    quantize_static(
        prepared,
        str(target),
        _Reader(pixels),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.Percentile,
        extra_options={"CalibPercentile": 99.99},
        op_types_to_quantize=["Conv", "Gemm", "MatMul"],
    )


def _measure(tagger: Tagger, path: Path, pixels: np.ndarray, labels: np.ndarray) -> Measurement:
    batches = list(_batches(pixels))
    tagger.probabilities(batches[0])  # allocates
    start = time.perf_counter()
    probabilities = np.concatenate([tagger.probabilities(batch) for batch in batches])
    seconds = time.perf_counter() - start
    mean_ap = 100 * mean_of_classes(average_precisions(probabilities, labels))
    return Measurement(path.stat().st_size / 1e6, len(pixels) / seconds, mean_ap)


def _batches(pixels: np.ndarray) -> Iterator[np.ndarray]:
    return (pixels[i : i + BATCH] for i in range(0, len(pixels), BATCH))
