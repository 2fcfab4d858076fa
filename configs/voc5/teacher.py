"""T-WDet on voc5, as on any list of images; its photos have boxes, so that detections are evaluated too."""

from detectron2.config import LazyCall as L
from detectron2.evaluation import DatasetEvaluators

from wsd_distill.evaluation import LocalizationEvaluator

from ..image_list.teacher import dataloader, lr_multiplier, model, optimizer, train, trainer
from .data import dataloader as _loaders
from .data import dataset, proposals

dataloader.test = _loaders.test
dataloader.test.test.loader.proposals = "${proposals.test}"
dataloader.test.test.evaluator = L(DatasetEvaluators)(
    evaluators=[
        dataloader.test.test.evaluator,
        L(LocalizationEvaluator)(dataset_name="${dataset.test}", output_dir="${train.output_dir}/inference/test"),
    ]
)
