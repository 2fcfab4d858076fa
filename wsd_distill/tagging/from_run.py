"""A model folder from a run of ``tools/train_net.py``."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.config import instantiate
from detectron2.data import DatasetCatalog
from omegaconf import DictConfig
from torch import Tensor

from ..data.build import get_dataset_dicts
from ..engine.lazy_config import load_config
from ..engine.run_folder import CONFIG, INPUTS, RESULTS, read_inputs
from ..evaluation.decisions import metric_intervals
from ..evaluation.scores import SCORES_FILE, read_scores
from ..io import check_file
from ..modeling import MultiLabelClassifier
from ..modeling.checkpoints.load import get_class_names, load_state, read_state
from .model_config import ModelConfig
from .save import make_config
from .tagger import Tagger

WEIGHTS = "model_final.pth"
METRICS = ("mAP", "CF1", "OF1")


def read_run(run: Path, overrides: Sequence[str] = ()) -> tuple[DictConfig, MultiLabelClassifier, ModelConfig]:
    """Read the config, the trained S-Cls and the settings of its model folder.

    The threshold is the one that was tuned on val, for all classes; probabilities are not calibrated.

    Raises:
        FileNotFoundError: the run is not complete.
        ValueError: the run trained no S-Cls, or a file is damaged.
    """
    cfg, state = open_run(run, (RESULTS,), overrides)
    model = instantiate(cfg.model)
    if not isinstance(model, MultiLabelClassifier):
        raise ValueError(f"{run} trained {type(model).__name__}, and only S-Cls can be exported: give its run")
    load_state(model, state, str(run / WEIGHTS))
    splits = _read_results(run / RESULTS)
    hashes = read_inputs(run / INPUTS) if (run / INPUTS).exists() else {}
    return (
        cfg,
        model.eval(),
        make_config(
            cfg,
            model,
            thresholds=read_threshold(run),
            metrics={name: _metrics(values, run, name, model.class_names) for name, values in splits.items()},
            data_hash=hashes.get("dataset.train", ""),
        ),
    )


def open_run(
    run: Path, needed: Sequence[str] = (), overrides: Sequence[str] = ()
) -> tuple[DictConfig, dict[str, Tensor]]:
    """Read the config and the weights of a run, without its dataset where that is not on this machine.

    Raises:
        FileNotFoundError: config, weights or another file that is ``needed`` does not exist.
    """
    for name in (CONFIG, WEIGHTS, *needed):
        if not (run / name).exists():
            raise FileNotFoundError(f"{run} has no {name}: give the folder of a complete run of tools/train_net.py")
    weights = str(run / WEIGHTS)
    state = read_state(weights)
    return load_config(str(run / CONFIG), overrides, get_class_names(state, weights)), state


def read_threshold(run: Path) -> float:
    """Read the threshold that a run has tuned on val, or on test where it has no val split.

    Raises:
        FileNotFoundError: the run has no results.
        ValueError: they are damaged, or have no threshold.
    """
    splits = _read_results(run / RESULTS)
    threshold = splits.get("val", splits.get("test", {})).get("threshold")
    if threshold is None:
        raise ValueError(f"{run / RESULTS} has no threshold of val: evaluate the run on val")
    return float(threshold)


def _read_results(path: Path) -> dict[str, dict[str, float]]:
    """Read the classification metrics of each split."""
    check_file(path)
    try:
        content = json.loads(path.read_text())
        found = {name: value for name, value in content.items() if isinstance(value, dict)}
        return {name: value["multilabel"] for name, value in found.items() if "multilabel" in value}
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{path} is damaged ({error}): evaluate the run again with --eval-only") from error


def _metrics(values: dict[str, float], run: Path, split: str, class_names: Sequence[str] | None) -> dict[str, Any]:
    """Return the main metrics in percent, with 95 % intervals where the run has its scores."""
    found: dict[str, Any] = {name: values[name] for name in METRICS if values.get(name) is not None}
    path = run / "inference" / split / SCORES_FILE
    if not path.exists():
        return found
    intervals = metric_intervals(read_scores(path, class_names), values["threshold"])
    for name in list(found):
        _, low, high = intervals[name]
        if math.isfinite(low) and math.isfinite(high):
            found[f"{name}_interval"] = [low, high]
    return found


def read_samples(dataset: str, config: ModelConfig, count: int = 16) -> np.ndarray | None:
    """Read photos of a split for the parity check: (N, S, S, 3); None if its files are not on this machine."""
    if dataset not in DatasetCatalog.list():
        return None
    reader = Tagger(config, lambda pixels: pixels, "")
    try:
        return np.stack([reader.read(record["file_name"]) for record in get_dataset_dicts(dataset, count)])
    except FileNotFoundError:
        return None


def labelled_photos(dataset: str, num_classes: int) -> tuple[list[str], np.ndarray]:
    """Return the files of a registered dataset and their labels (N, K)."""
    records = get_dataset_dicts(dataset)
    labels = np.zeros((len(records), num_classes), np.int8)
    for row, record in zip(labels, records):
        row[list(record.get("ignore_labels", []))] = -1
        row[list(record["labels"])] = 1
    return [record["file_name"] for record in records], labels
