"""``config.json`` of a model folder: classes, thresholds, pixels, and how the PyTorch network is built."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from ..io import atomic_write, check_file

FORMAT = 1
CONFIG, WEIGHTS, ONNX, INT8, CARD = "config.json", "model.safetensors", "model.onnx", "model_int8.onnx", "README.md"

GRAPH_KEYS = ("megabytes", "images_per_second", "mAP")


class ModelConfigError(ValueError):
    """``config.json`` is damaged, or of another format; names the file and the key."""


@dataclass
class ModelConfig:
    """Settings of a tagger with K classes.

    Attributes:
        classes: K names, in the order of the outputs.
        thresholds: K probabilities; a label is given from its threshold on.
        calibration: Platt scaling, ``{"scale": a, "offset": b}``: p = sigmoid(a * logit + b).
        image_size: height and width of the input, S.
        fast_decode: decode JPEGs at a reduced size that is not below S.
        backbone: arguments of S-Cls, as in :func:`.network.describe_network`.
        pixel_mean, pixel_std: statistics per channel, in the order of ``image_format``.
        image_format: channel order of the network, "RGB" or "BGR"; inputs of the runtime are RGB.
        versions: package -> version that wrote the folder.
        data_hash: hash of the training labels.
        metrics: split -> name -> value in percent, ``<name>_interval`` -> [low, high].
        graphs: ONNX file -> its "megabytes", "images_per_second" of the network alone, and "mAP" in percent, as
            measured when the int8 file was written; empty before.
        format: version of this file.
    """

    classes: list[str]
    thresholds: list[float]
    calibration: dict[str, float]
    image_size: int
    fast_decode: bool
    backbone: dict[str, Any]
    pixel_mean: list[float]
    pixel_std: list[float]
    image_format: str
    versions: dict[str, str] = field(default_factory=dict)
    data_hash: str = ""
    metrics: dict[str, Any] = field(default_factory=dict)
    graphs: dict[str, dict[str, float]] = field(default_factory=dict)
    format: int = FORMAT

    def check(self, place: str = CONFIG) -> ModelConfig:
        """Return the config itself; raise ModelConfigError that names ``place`` and the first wrong key."""
        for key, is_valid, expected in _rules(self):
            if not is_valid:
                text = f"{place}: {key} is {_shorten(getattr(self, key))}, expected {expected}"
                raise ModelConfigError(f"{text}: export the model again")
        return self

    @classmethod
    def read(cls, folder: str | os.PathLike) -> ModelConfig:
        """Read ``config.json`` of a model folder.

        Raises:
            FileNotFoundError: the folder has no ``config.json``.
            ModelConfigError: it is not JSON, has another format, a missing or unknown key or a wrong value.
        """
        path = Path(folder) / CONFIG
        if not path.exists():
            inside = path.parent / "model"
            hint = (
                f"{inside}, its model folder"
                if (inside / CONFIG).exists()
                else "a model folder, as wsd export writes it"
            )
            raise FileNotFoundError(f"{folder} has no {CONFIG}: give {hint}")
        check_file(path)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise ModelConfigError(f"{path} is not valid JSON ({error}): export the model again") from error
        if not isinstance(content, dict):
            raise ModelConfigError(f"{path} is not a JSON object: export the model again")
        if content.get("format") != FORMAT:
            text = f"{path}: format is {_shorten(content.get('format'))}, and this version reads {FORMAT}"
            raise ModelConfigError(f"{text}: export the model again, or use the version of wsd_distill that wrote it")
        known = {x.name for x in fields(cls)}
        for names, problem in ((known - set(content), "is missing"), (set(content) - known, "is not a known key")):
            if names:
                raise ModelConfigError(f"{path}: {sorted(names)[0]} {problem}: export the model again")
        return cls(**content).check(str(path))

    def write(self, path: Path) -> None:
        """Write the checked config as JSON."""
        text = json.dumps(asdict(self.check()), indent=1, ensure_ascii=False, allow_nan=False)
        with atomic_write(path) as tmp_path:
            tmp_path.write_text(text + "\n", encoding="utf-8")


def _rules(config: ModelConfig) -> list[tuple[str, bool, str]]:
    """Return (key, whether its value is valid, what is expected)."""
    names, k = config.classes, len(config.classes) if isinstance(config.classes, list) else 0
    is_names = k > 0 and all(isinstance(name, str) and name.strip() for name in names) and len(set(names)) == k
    scale = config.calibration.get("scale") if isinstance(config.calibration, dict) else None
    is_platt = isinstance(config.calibration, dict) and set(config.calibration) == {"scale", "offset"}
    texts = isinstance(config.versions, dict) and all(isinstance(x, str) for x in config.versions.values())
    return [
        ("classes", is_names, "a list of different names"),
        ("thresholds", _numbers(config.thresholds, k, 0, 1), f"{k} numbers from 0 to 1"),
        (
            "calibration",
            is_platt and _numbers([scale, config.calibration["offset"]], 2) and scale > 0,  # type: ignore[operator]
            '{"scale": a number above 0, "offset": a number}',
        ),
        ("image_size", type(config.image_size) is int and config.image_size > 0, "a whole number above 0"),
        ("fast_decode", isinstance(config.fast_decode, bool), "true or false"),
        ("backbone", isinstance(config.backbone, dict), "an object"),
        ("pixel_mean", _numbers(config.pixel_mean, 3), "3 numbers"),
        ("pixel_std", _numbers(config.pixel_std, 3, 1e-6), "3 numbers above 0"),
        ("image_format", config.image_format in ("RGB", "BGR"), '"RGB" or "BGR"'),
        ("versions", texts, "an object of texts"),
        ("data_hash", isinstance(config.data_hash, str), "a text"),
        ("metrics", isinstance(config.metrics, dict), "an object"),
        ("graphs", _are_graphs(config.graphs), f"an object: file -> {', '.join(GRAPH_KEYS)}"),
    ]


def _are_graphs(graphs: Any) -> bool:
    rows: list[Any] = list(graphs.values()) if isinstance(graphs, dict) else [None]
    has_keys = all(isinstance(row, dict) and set(row) == set(GRAPH_KEYS) for row in rows)
    return has_keys and all(_numbers(list(row.values()), len(GRAPH_KEYS), 0) for row in rows)


def _numbers(values: Any, count: int, low: float = -np.inf, high: float = np.inf) -> bool:
    is_list = isinstance(values, list) and len(values) == count
    return is_list and all(type(x) in (int, float) and np.isfinite(x) and low <= x <= high for x in values)


def _shorten(value: Any, limit: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}..."
