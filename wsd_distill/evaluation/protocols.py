"""Multi-label metrics as computed by other projects, for comparable numbers.

The sources are in docs/protocols.md. Predictions depend on scores only, except that the threshold of ``paper`` is tuned
on the labels of a split.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from .metrics import (
    average_precisions,
    f1_scores,
    mean_of_classes,
    ranked_average_precisions,
    top_k_predictions,
    tune_threshold,
)
from .scores import Scores

TOP_3, TOP_3_ABOVE = "-top3", "-top3-above"
METRICS = ("CP", "CR", "CF1", "OP", "OR", "OF1")
METRIC_NAMES = ("mAP", *(f"{metric}{mode}" for mode in ("", TOP_3, TOP_3_ABOVE) for metric in METRICS))
_ranked = partial(ranked_average_precisions, interpolated=False)
_voc_2010 = partial(ranked_average_precisions, interpolated=True)


@dataclass(frozen=True)
class Protocol:
    """How a project computes its metrics from (N, K) scores and labels (1 = positive, 0 = negative, -1 = ignored).

    Attributes:
        name: name of the protocol.
        average_precisions: (scores, labels) -> (K,), nan for a class without positives; labels of -1 are ignored.
        cf1: key of :func:`.f1_scores` that the project calls CF1: ``"CF1"`` or ``"CF1-of-means"``.
        threshold: scores above it are predicted; None: tuned.
        at_threshold: scores equal to the threshold are predicted too: in ``paper``, as in all of this
            project, and where the code of the project has it so.
        top_3: further modes of prediction: ``TOP_3``, the top 3 classes of an image (ties go to the lower class
            index); ``TOP_3_ABOVE``, those of the top 3 above the threshold.
        empty_class_ap: AP of a class without positives in mAP; None excludes the class.
        zero_division: value of 0/0 in precision, recall and F1; their means are over all K classes.
        ignored_is_negative: labels of -1 are negative for precision, recall and F1; otherwise ignored.
    """

    name: str
    average_precisions: Callable[[np.ndarray, np.ndarray], np.ndarray]
    cf1: str
    threshold: float | None
    at_threshold: bool = False
    top_3: tuple[str, ...] = ()
    empty_class_ap: float | None = None
    zero_division: float = 0.0
    ignored_is_negative: bool = False

    def evaluate(self, found: Scores, tuning: Scores) -> dict[str, float]:
        """Compute ``mAP`` and ``METRICS`` of each mode, in percent, and ``threshold``.

        Args:
            found: scores and labels to evaluate.
            tuning: split to tune the threshold on, if the protocol has no fixed one.

        Raises:
            ValueError: No class has positives.
        """
        threshold = self.threshold
        if threshold is None:
            threshold = tune_threshold(tuning.scores, tuning.labels)
        precisions = self.average_precisions(found.scores, found.labels)
        mean = mean_of_classes(precisions)
        if self.empty_class_ap is not None:
            mean = float(np.nan_to_num(precisions, nan=self.empty_class_ap).mean())
        results = {"mAP": 100 * mean, "threshold": threshold}
        above = found.scores >= threshold if self.at_threshold else found.scores > threshold
        best = top_k_predictions(found.scores, k=3)
        predictions = {"": above, TOP_3: best, TOP_3_ABOVE: best & above}
        labels = np.maximum(found.labels, 0) if self.ignored_is_negative else found.labels
        for mode in ("", *self.top_3):
            metrics = f1_scores(predictions[mode], labels, zero_division=self.zero_division)
            metrics["CF1"] = metrics[self.cf1]
            results.update({f"{name}{mode}": 100 * metrics[name] for name in METRICS})
        return results


_ASL = Protocol("asl", _ranked, "CF1", 0.8, empty_class_ap=0.0)
PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol("paper", average_precisions, "CF1", None, at_threshold=True, top_3=(TOP_3,)),
        Protocol("srn", _voc_2010, "CF1", 0.5, top_3=(TOP_3, TOP_3_ABOVE), zero_division=1.0, ignored_is_negative=True),
        Protocol(
            "ml-gcn", _ranked, "CF1-of-means", 0.5, at_threshold=True, top_3=(TOP_3_ABOVE,), ignored_is_negative=True
        ),
        _ASL,
        replace(_ASL, name="ml-decoder", threshold=0.75),
        Protocol("sklearn", average_precisions, "CF1", 0.5, empty_class_ap=0.0),
    )
}
