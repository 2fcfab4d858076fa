"""The evaluations of a config: their order, their evaluators, and the weights that they are of."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from typing import Any

from detectron2.config import instantiate
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils.registry import locate
from omegaconf import DictConfig, open_dict

from wsd_distill.data.check import check_splits
from wsd_distill.data.datasets import SPLITS


def evaluation_order(tests: Mapping[str, Any]) -> list[str]:
    """Return the names in ``dataloader.test``; splits that the threshold of another is tuned on come first.

    Raises:
        ValueError: ``threshold_split`` is not evaluated, or its own threshold is tuned on another split.
    """
    sources = {name: test.evaluator.get("threshold_split") for name, test in tests.items() if test is not None}
    for name, source in sources.items():
        if source is not None and (source not in sources or sources[source] is not None):
            tuned = ", ".join(name for name, own in sources.items() if own is None) or "none"
            text = (
                f"dataloader.test.{name}.evaluator.threshold_split={source}: not a split that is evaluated in this run"
            )
            raise ValueError(f"{text} with a threshold of its own; there are: {tuned}")
    return sorted(sources, key=lambda name: (sources[name] is not None, name))


def has_teacher(cfg: DictConfig) -> bool:
    """Whether a training is one of T-WDet or with its outputs."""
    return bool(cfg.dataloader.train.get("proposals"))


def check_data(cfg: DictConfig) -> None:
    """Check before the first step what would otherwise end a training, or spoil it: labels, images and evaluators.

    Raises:
        ValueError: as in ``check_splits``, ``evaluation_order`` and the evaluators; or T-WDet would train on one class,
            or a training without a teacher on unlabelled images.
        FileNotFoundError: as in ``check_splits``.
    """
    if cfg.dataset.unlabelled is not None and "distiller" not in cfg:
        raise ValueError(
            f"dataset.unlabelled={cfg.dataset.unlabelled}: this config trains without a teacher, and images without "
            "labels teach nothing there: leave dataset.unlabelled and dataset.files.unlabelled out, or choose a config "
            "that distils, for example soft_labels"
        )
    tests = cfg.dataloader.get("test") or {}
    order = evaluation_order(tests)
    used = {cfg.dataset.train, *(tests[name].evaluator.get("dataset_name") for name in order)}
    check_splits({split: cfg.dataset[split] for split in SPLITS if cfg.dataset[split] in used})
    classes = MetadataCatalog.get(cfg.dataset.train).thing_classes
    if len(classes) == 1 and has_teacher(cfg):
        text = (
            f"dataset.name={cfg.dataset.name} has one class, {classes[0]}, for which T-WDet's softmax over classes is 1"
        )
        raise ValueError(f"{text}: label the images without it as a class background, or train S-Cls alone")
    for name in order:
        build_evaluator(tests[name], {other: {"multilabel": {"threshold": 0.5}} for other in order}, "")


def build_evaluator(test: DictConfig, results: Mapping[str, dict], digest: str) -> DatasetEvaluator:
    """Build the evaluator of an entry of ``dataloader.test``.

    Args:
        test: the entry.
        results: metrics of the splits that were evaluated before, with the threshold of ``threshold_split``.
        digest: ``hash_state`` of the model's weights.
    """
    config = copy.deepcopy(test.evaluator)  # keeps its parent, which interpolations refer to
    target = config._target_
    with open_dict(config):
        if config.get("threshold_split") is not None:
            config.threshold = results[config.threshold_split]["multilabel"]["threshold"]
        if "weights_digest" in inspect.signature(locate(target) if isinstance(target, str) else target).parameters:
            config.weights_digest = digest
    return instantiate(config)
