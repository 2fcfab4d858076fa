"""Evaluator of multi-label classification: mAP, per-class and overall F1, top-3."""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import Any

import numpy as np
from tabulate import tabulate

from wsd_distill.data.class_counts import describe_classes, label_matrix
from wsd_distill.io import atomic_write

from .metrics import (
    average_precisions,
    describe_map,
    f1_scores,
    map_levels,
    mean_of_classes,
    top_k_predictions,
    tune_threshold,
)
from .per_image import PerImageEvaluator, per_class_table
from .scores import SCORES_FILE, constant_scores, invalid_rows, score_std

logger = logging.getLogger(__name__)


class MultiLabelEvaluator(PerImageEvaluator):
    """Multi-label classification metrics from ``"image_scores"`` of each output, (K,) probabilities.

    ``evaluate`` returns ``{"multilabel": ...}``, in percent except ``threshold`` and ``score-std``:

    - ``mAP``, ``AP-<class>`` (nan for a class without positives);
    - ``mAP-chance``, the mAP of random scores, and ``mAP-with-negatives``, without the classes that every image has
      (:func:`.map_levels`);
    - ``CF1``, ``CF1-of-means``, ``OF1``, ``CP``, ``CR``, ``OP``, ``OR`` for scores from ``threshold`` on, the same for
      all classes;
    - the same at threshold 0.5 (``CF1@0.5``, ...) and for the top 3 classes of each image (``CF1-top3``, ...);
    - ``score-std``, as in :func:`.score_std`: below ``MIN_SCORE_STD`` the scores hardly depend on the image.

    The metrics are defined in :mod:`.metrics`. Classes that cannot be measured are logged as warnings.

    Args:
        dataset_name: a registered dataset whose dicts have ``labels`` and, optionally, ``ignore_labels``, both
            contiguous class indices.
        output_dir: folder for ``scores.npz``, with ``image_ids`` (N,), ``scores`` (N, K) float32, ``labels`` (N, K)
            int8, ``class_names`` (K,) and ``weights_digest``; None writes nothing.
        threshold: scores from it on are predicted; None: the one that maximizes CF1 + OF1 on the dataset itself.
        threshold_source: what ``threshold`` was tuned on, for the log.
        weights_digest: identifies the weights that are evaluated.
        distributed: gather the predictions of all ranks.

    Raises:
        ValueError: Labels are missing or out of range or, in ``evaluate``, an image has no prediction or scores that
            are not probabilities.
    """

    def __init__(
        self,
        dataset_name: str,
        *,
        output_dir: str | None = None,
        threshold: float | None = None,
        threshold_source: str = "",
        weights_digest: str = "",
        distributed: bool = True,
    ):
        super().__init__(dataset_name, output_dir, distributed)
        self._threshold, self._threshold_source = threshold, threshold_source
        self._weights_digest = weights_digest
        self._labels = label_matrix(self._dataset, len(self.class_names), dataset_name)

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
            digest = np.array(self._weights_digest)
            with atomic_write(self._output_dir / SCORES_FILE) as tmp_path, open(tmp_path, "wb") as file:
                np.savez(
                    file, image_ids=ids, scores=scores, labels=self._labels, class_names=names, weights_digest=digest
                )
        precisions = average_precisions(scores, self._labels)
        threshold = self._choose_threshold(scores)
        results = {"mAP": 100 * mean_of_classes(precisions), **map_levels(precisions, self._labels)}
        results.update(self._f1(scores >= threshold, ""), threshold=threshold)
        results.update(self._f1(scores >= 0.5, "@0.5"))
        results.update(self._f1(top_k_predictions(scores, k=3), "-top3"))
        results["score-std"] = score_std(scores)
        self._log(results)
        for problem in [*constant_scores(scores), *describe_classes(self._labels, self.class_names)]:
            logger.warning(f"{self.dataset_name}: {problem}.")
        logger.info(f"AP of each class:\n{per_class_table(self.class_names, 100 * precisions, 'AP')}")
        results.update({f"AP-{name}": float(100 * ap) for name, ap in zip(self.class_names, precisions)})
        return OrderedDict(multilabel=results)

    def _log(self, results: dict[str, float]) -> None:
        names = ["CF1", "CF1-of-means", "OF1", "CP", "CR", "OP", "OR"]
        modes = {f"score \u2265 {results['threshold']:.4f}": "", "score \u2265 0.5": "@0.5", "top-3": "-top3"}
        rows = [[mode, *(results[name + suffix] for name in names)] for mode, suffix in modes.items()]
        table = tabulate(rows, headers=["predicted", *names], tablefmt="pipe", floatfmt=".2f")
        logger.info(f"{self.dataset_name}: {describe_map(results)}\n{table}")

    def _f1(self, predictions: np.ndarray, suffix: str) -> dict[str, float]:
        metrics = f1_scores(predictions, self._labels)
        return {f"{name}{suffix}": 100 * value for name, value in metrics.items()}

    def _choose_threshold(self, scores: np.ndarray) -> float:
        if self._threshold is None:
            logger.info(f"Threshold tuned on {self.dataset_name} itself: F1 is optimistic.")
            return tune_threshold(scores, self._labels)
        logger.info(f"Threshold {self._threshold:.4f} tuned on {self._threshold_source or 'another dataset'}.")
        return self._threshold
