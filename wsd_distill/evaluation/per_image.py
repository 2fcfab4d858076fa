"""Base class of the evaluators: gathers one prediction per image, in the order of the dataset."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from tabulate import tabulate

from wsd_distill.data.types import DatasetDict


class PerImageEvaluator(DatasetEvaluator, ABC):
    """Keeps the result of ``read_output`` for each image and passes all of them to ``summarize``.

    If an image is processed twice (a distributed sampler may pad), its first prediction is used. ``process`` raises
    ValueError for an image that is not in the dataset, ``evaluate`` for an image that was not processed. With
    ``distributed``, ``evaluate`` returns None on all ranks but the first.
    """

    def __init__(self, dataset_name: str, output_dir: str | None, distributed: bool):
        """Load the dataset; it must have ``thing_classes`` in MetadataCatalog."""
        self.dataset_name = dataset_name
        self.class_names: list[str] = list(MetadataCatalog.get(dataset_name).thing_classes)
        self._dataset: list[DatasetDict] = DatasetCatalog.get(dataset_name)
        self._output_dir = None if output_dir is None else Path(output_dir)
        self._distributed = distributed
        self.image_ids = [record["image_id"] for record in self._dataset]
        self._index = {image_id: i for i, image_id in enumerate(self.image_ids)}
        if len(self._index) != len(self.image_ids):
            raise ValueError(f"Dataset {dataset_name!r} has two images with the same image_id: make them unique.")
        self.reset()

    def reset(self) -> None:
        self._predictions: dict[Any, Any] = {}

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        for record, output in zip(inputs, outputs):
            image_id = record.get("image_id")
            if image_id not in self._index:
                raise ValueError(f"Image {image_id!r} is not in dataset {self.dataset_name!r}.")
            if image_id not in self._predictions:
                self._predictions[image_id] = self.read_output(image_id, output)

    def evaluate(self) -> dict[str, dict[str, float]] | None:
        parts = [self._predictions]
        if self._distributed:
            parts = comm.gather(self._predictions)
            if not comm.is_main_process():
                return None
        # The prediction of the lowest rank is kept.
        merged = {image_id: prediction for part in reversed(parts) for image_id, prediction in part.items()}
        missing = [image_id for image_id in self.image_ids if image_id not in merged]
        if missing:
            raise ValueError(
                f"{len(missing)} of the {len(self.image_ids)} images of {self.dataset_name!r} have no "
                f"prediction, first image {missing[0]!r}: run the model on the whole dataset."
            )
        return self.summarize([merged[image_id] for image_id in self.image_ids])

    @abstractmethod
    def read_output(self, image_id: Any, output: dict) -> Any:
        """Convert one image's output to NumPy arrays to keep."""

    @abstractmethod
    def summarize(self, predictions: list) -> dict[str, dict[str, float]]:
        """Compute {task: {metric: value}} from the results of ``read_output``, in the order of the dataset."""


def per_class_table(class_names: Sequence[str], values: Iterable[float], metric: str) -> str:
    """Format a text table of one value per class, three classes per line."""
    cells = [cell for pair in zip(class_names, values) for cell in pair]
    rows = itertools.zip_longest(*[iter(cells)] * 6)
    return tabulate(rows, headers=["class", metric] * 3, tablefmt="pipe", floatfmt=".2f", numalign="right")
