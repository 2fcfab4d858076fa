"""CorLoc and AP beside the multi-label metrics, where a dataset has boxes to evaluate with."""

from detectron2.config import LazyCall as L
from detectron2.evaluation import DatasetEvaluators

from wsd_distill.evaluation import LocalizationEvaluator


def add_localization_metrics(test):
    """Let the test split's evaluator, in ``dataloader.test``, also evaluate T-WDet's detections."""
    boxes = L(LocalizationEvaluator)(dataset_name="${dataset.test}", output_dir="${train.output_dir}/inference/test")
    test.test.evaluator = L(DatasetEvaluators)(evaluators=[test.test.evaluator, boxes])
