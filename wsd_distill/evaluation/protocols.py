"""Multi-label metrics as other projects compute them, so that a number is compared with what it stands beside.

docs/protocols.md has the sources. Predictions come from scores alone: labels choose nothing, save for the one threshold
of ``paper``, which is tuned over all images of a split.
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
FIGURES = ("mAP", *(f"{metric}{way}" for way in ("", TOP_3, TOP_3_ABOVE) for metric in METRICS))
_ranked = partial(ranked_average_precisions, interpolated=False)
_voc_2010 = partial(ranked_average_precisions, interpolated=True)


@dataclass(frozen=True)
class Protocol:
    """How one project gets from scores (N, K) and labels (N, K), 1, 0 or -1 for neither, to its figures.

    Attributes:
        name: under which it is asked for and reported.
        average_precisions: of (scores, labels) -> (K,), nan for a class without a positive; it leaves out labels of -1.
        cf1: which of :func:`.f1_scores` it calls CF1: ``"CF1"``, the mean of the classes' F1, or ``"CF1-of-means"``.
        threshold: a class is predicted if its score is above it. None: it is tuned.
        at_threshold: a score of just the threshold is predicted too.
        top_3: what it knows beside "above the threshold": ``TOP_3``, the three best classes of an image (of equal
            scores, the lower class index wins), ``TOP_3_ABOVE``, those of the three that are above the threshold.
        empty_class_ap: average precision, in mAP, of a class without a positive. None: mAP leaves it out.
        zero_division: what 0/0 is in precision, recall and F1; all K classes count in their means.
        unknown_is_negative: F1 counts -1 as 0, so that predicting it is wrong; else it leaves it out.
    """

    name: str
    average_precisions: Callable[[np.ndarray, np.ndarray], np.ndarray]
    cf1: str
    threshold: float | None
    at_threshold: bool = False
    top_3: tuple[str, ...] = ()
    empty_class_ap: float | None = None
    zero_division: float = 0.0
    unknown_is_negative: bool = False

    def mean_average_precision(self, scores: np.ndarray, labels: np.ndarray) -> float:
        """mAP. No class with a positive: ValueError."""
        precisions = self.average_precisions(scores, labels)
        mean = mean_of_classes(precisions)
        if self.empty_class_ap is None:
            return mean
        return float(np.nan_to_num(precisions, nan=self.empty_class_ap).mean())

    def predictions(self, scores: np.ndarray, threshold: float) -> dict[str, np.ndarray]:
        """(N, K) bool for each way to predict: ``""``, above the threshold, and those of ``top_3``."""
        above = scores >= threshold if self.at_threshold else scores > threshold
        best = top_k_predictions(scores, k=3)
        ways = {"": above, TOP_3: best, TOP_3_ABOVE: best & above}
        return {way: ways[way] for way in ("", *self.top_3)}

    def evaluate(self, found: Scores, tuning: Scores) -> dict[str, float]:
        """All its figures, in percent save for ``threshold``: ``mAP``; ``METRICS`` with each of its ways to predict.

        ``tuning`` is the split to tune the threshold on, if the protocol has none of its own.
        """
        threshold = self.threshold
        if threshold is None:
            threshold = tune_threshold(tuning.scores, tuning.labels)
        results = {"mAP": 100 * self.mean_average_precision(found.scores, found.labels), "threshold": threshold}
        labels = np.maximum(found.labels, 0) if self.unknown_is_negative else found.labels
        for way, predicted in self.predictions(found.scores, threshold).items():
            metrics = f1_scores(predicted, labels, zero_division=self.zero_division)
            metrics["CF1"] = metrics[self.cf1]
            results.update({f"{name}{way}": 100 * metrics[name] for name in METRICS})
        return results


_ASL = Protocol("asl", _ranked, "CF1", 0.8, empty_class_ap=0.0)
PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol("paper", average_precisions, "CF1", None, top_3=(TOP_3,)),
        Protocol("srn", _voc_2010, "CF1", 0.5, top_3=(TOP_3, TOP_3_ABOVE), zero_division=1.0, unknown_is_negative=True),
        Protocol(
            "ml-gcn", _ranked, "CF1-of-means", 0.5, at_threshold=True, top_3=(TOP_3_ABOVE,), unknown_is_negative=True
        ),
        _ASL,
        replace(_ASL, name="ml-decoder", threshold=0.75),
        Protocol("sklearn", average_precisions, "CF1", 0.5, empty_class_ap=0.0),
    )
}
