"""Evaluators for multi-label classification and for localization."""

from __future__ import annotations

from detectron2.evaluation import DatasetEvaluator, DatasetEvaluators

from .localization import LocalizationEvaluator
from .multilabel import MultiLabelEvaluator

__all__ = ["LocalizationEvaluator", "MultiLabelEvaluator", "build_evaluator"]


def build_evaluator(
    dataset_name: str, output_dir: str | None = None, threshold_split: str | None = None, boxes: bool = False
) -> DatasetEvaluator:
    """Build the evaluator of a dataset for a config.

    Args:
        dataset_name: a registered dataset.
        output_dir: folder for scores and detections; None writes nothing.
        threshold_split: split to tune the threshold on, as in MultiLabelEvaluator.
        boxes: also evaluate boxes with LocalizationEvaluator.
    """
    multilabel = MultiLabelEvaluator(dataset_name, output_dir=output_dir, threshold_split=threshold_split)
    if not boxes:
        return multilabel
    return DatasetEvaluators([multilabel, LocalizationEvaluator(dataset_name, output_dir=output_dir)])
