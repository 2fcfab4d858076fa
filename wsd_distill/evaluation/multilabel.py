"""Evaluator of multi-label classification: mAP, per-class and overall F1, top-3."""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import Any

import numpy as np
from tabulate import tabulate

from wsd_distill.io import atomic_write

from .metrics import average_precisions, f1_scores, mean_of_classes, top_k_predictions, tune_threshold
from .per_image import PerImageEvaluator, per_class_table
from .scores import SCORES_FILE, invalid_rows, read_scores

logger = logging.getLogger(__name__)


class MultiLabelEvaluator(PerImageEvaluator):
    """Multi-label classification metrics from ``"image_scores"`` of each output, (K,) probabilities.

    ``evaluate`` returns ``{"multilabel": ...}``, in percent except ``threshold``:

    - ``mAP``, ``AP-<class>`` (nan for a class without positives);
    - ``CF1``, ``CF1-of-means``, ``OF1``, ``CP``, ``CR``, ``OP``, ``OR`` for scores above ``threshold``, the same for
      all classes, which maximizes CF1 + OF1 on ``threshold_split``;
    - the same at threshold 0.5 (``CF1@0.5``, ...) and for the top 3 classes of each image (``CF1-top3``, ...).

    The metrics are defined in :mod:`.metrics`.

    Args:
        dataset_name: a registered dataset whose dicts have ``labels`` and, optionally, ``ignore_labels``, both
            contiguous class indices.
        output_dir: folder for ``scores.npz``, with ``image_ids`` (N,), ``scores`` (N, K) float32, ``labels`` (N, K)
            int8 and ``class_names`` (K,); None writes nothing.
        threshold_split: split to tune the threshold on. Its evaluator must have written its scores to the folder of
            this name next to ``output_dir``. None: the dataset itself.
        distributed: gather the predictions of all ranks.

    Raises:
        ValueError: Labels are missing or out of range, ``threshold_split`` is given without ``output_dir``, or, in
            ``evaluate``, an image has no prediction or scores that are not probabilities.
        FileNotFoundError: In ``evaluate``: ``threshold_split`` has not been evaluated.
    """

    def __init__(
        self,
        dataset_name: str,
        *,
        output_dir: str | None = None,
        threshold_split: str | None = None,
        distributed: bool = True,
    ):
        super().__init__(dataset_name, output_dir, distributed)
        if threshold_split is not None and output_dir is None:
            raise ValueError("threshold_split needs output_dir: the scores of the split are read from next to it.")
        self._threshold_split = threshold_split
        self._labels = self._label_matrix()

    def read_output(self, image_id: Any, output: dict) -> np.ndarray:
        if "image_scores" not in output:
            raise ValueError(f"The output for image {image_id!r} has no 'image_scores', only {sorted(output)}.")
        scores = output["image_scores"].detach().float().cpu().numpy()
        if scores.shape != (len(self.class_names),):
            raise ValueError(
                f"'image_scores' of image {image_id!r} has shape {scores.shape}, but there are "
                f"{len(self.class_names)} classes in {self.dataset_name!r}."
            )
        return scores

    def summarize(self, predictions: list[np.ndarray]) -> OrderedDict[str, dict[str, float]]:
        scores = np.stack(predictions)  # (N, K)
        bad = invalid_rows(scores)
        if len(bad):
            raise ValueError(
                f"'image_scores' of {len(bad)} images are NaN or outside [0, 1], first those of image "
                f"{self.image_ids[bad[0]]!r}: {scores[bad[0]]}. Return probabilities, not logits."
            )
        if self._output_dir is not None:
            ids, names = np.array(self.image_ids), np.array(self.class_names)
            with atomic_write(self._output_dir / SCORES_FILE) as tmp_path, open(tmp_path, "wb") as file:
                np.savez(file, image_ids=ids, scores=scores, labels=self._labels, class_names=names)
        precisions = average_precisions(scores, self._labels)
        threshold = self._tuned_threshold(scores)
        results = {"mAP": 100 * mean_of_classes(precisions)}
        results.update(self._f1(scores > threshold, ""), threshold=threshold)
        results.update(self._f1(scores > 0.5, "@0.5"))
        results.update(self._f1(top_k_predictions(scores, k=3), "-top3"))
        self._log(results)
        logger.info(f"AP of each class:\n{per_class_table(self.class_names, 100 * precisions, 'AP')}")
        results.update({f"AP-{name}": float(100 * ap) for name, ap in zip(self.class_names, precisions)})
        return OrderedDict(multilabel=results)

    def _log(self, results: dict[str, float]) -> None:
        names = ["CF1", "CF1-of-means", "OF1", "CP", "CR", "OP", "OR"]
        modes = {f"score > {results['threshold']:.4f}": "", "score > 0.5": "@0.5", "top-3": "-top3"}
        rows = [[mode, *(results[name + suffix] for name in names)] for mode, suffix in modes.items()]
        table = tabulate(rows, headers=["predicted", *names], tablefmt="pipe", floatfmt=".2f")
        logger.info(f"{self.dataset_name}: mAP {results['mAP']:.2f}\n{table}")

    def _f1(self, predictions: np.ndarray, suffix: str) -> dict[str, float]:
        metrics = f1_scores(predictions, self._labels)
        return {f"{name}{suffix}": 100 * value for name, value in metrics.items()}

    def _label_matrix(self) -> np.ndarray:
        labels = np.zeros((len(self._dataset), len(self.class_names)), dtype=np.int8)
        for row, record in zip(labels, self._dataset):
            if "labels" not in record:
                raise ValueError(f"Image {record['image_id']!r} of {self.dataset_name!r} has no 'labels'.")
            present, ignored = record["labels"], record.get("ignore_labels", [])
            if not all(0 <= label < len(row) for label in [*present, *ignored]):
                raise ValueError(
                    f"Image {record['image_id']!r} of {self.dataset_name!r} has labels {present + ignored}, "
                    f"but there are {len(row)} classes (0 to {len(row) - 1})."
                )
            row[ignored] = -1
            row[present] = 1
        return labels

    def _tuned_threshold(self, scores: np.ndarray) -> float:
        if self._threshold_split is None:
            logger.info(f"Threshold tuned on {self.dataset_name} itself: F1 is optimistic.")
            return tune_threshold(scores, self._labels)
        assert self._output_dir is not None  # checked in __init__
        path = self._output_dir.parent / self._threshold_split / SCORES_FILE
        logger.info(f"Threshold tuned on {path}.")
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} is missing: the threshold is tuned on {path.parent.name!r}; evaluate that split first, with "
                f"output_dir {path.parent}."
            )
        tuning = read_scores(path, self.class_names)
        return tune_threshold(tuning.scores, tuning.labels)
