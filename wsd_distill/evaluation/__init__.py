"""Evaluators for multi-label classification and for localization."""

from __future__ import annotations

from detectron2.evaluation import DatasetEvaluator, DatasetEvaluators

from .localization import LocalizationEvaluator
from .multilabel import MultiLabelEvaluator

__all__ = ["LocalizationEvaluator", "MultiLabelEvaluator", "build_evaluator"]


def build_evaluator(
    dataset_name: str,
    output_dir: str | None = None,
    threshold_split: str | None = None,
    boxes: bool = False,
    threshold: float | None = None,
    weights_digest: str = "",
) -> DatasetEvaluator:
    """Build the evaluator of a dataset for a config.

    Args:
        dataset_name: a registered dataset.
        output_dir: folder for scores and detections; None writes nothing.
        threshold_split: name of the split that ``threshold`` was tuned on in the same evaluation; None: the threshold
            is tuned on the dataset itself.
        boxes: also evaluate boxes with LocalizationEvaluator.
        threshold, weights_digest: as in MultiLabelEvaluator; ``do_test`` sets both.

    Raises:
        ValueError: one of ``threshold_split`` and ``threshold`` is set without the other.
    """
    if (threshold_split is None) != (threshold is None):
        text = f"threshold_split is {threshold_split!r} and threshold is {threshold}: set both or none"
        raise ValueError(f"the evaluator of {dataset_name}: {text}")
    multilabel = MultiLabelEvaluator(
        dataset_name,
        output_dir=output_dir,
        threshold=threshold,
        threshold_source=threshold_split or "",
        weights_digest=weights_digest,
    )
    if not boxes:
        return multilabel
    return DatasetEvaluators([multilabel, LocalizationEvaluator(dataset_name, output_dir=output_dir)])
