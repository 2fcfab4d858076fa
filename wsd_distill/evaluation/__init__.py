"""Evaluators: what an image holds (multi-label classification) and where (localization)."""

from .localization import LocalizationEvaluator
from .multilabel import MultiLabelEvaluator

__all__ = ["LocalizationEvaluator", "MultiLabelEvaluator"]
