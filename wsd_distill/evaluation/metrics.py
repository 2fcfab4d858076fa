"""Multi-label classification metrics, as pure functions of arrays. Every result is a fraction in [0, 1].

N images, K classes. ``scores`` is (N, K), floating point and finite; ``labels`` is (N, K), 1 or True where
the image has the class, 0 or False where it has not, -1 where it counts neither way. Wrong shapes and scores that
are not finite raise ValueError.
"""

from __future__ import annotations

import numpy as np
from sklearn.metrics import average_precision_score


def average_precisions(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Average precision of each class by scikit-learn: not interpolated, equal scores counted as one rank.

    Returns:
        (K,) float64, nan for a class without a positive.
    """
    scores, positive, known = _checked(scores, labels)
    columns = [(y[k], s[k]) for y, s, k in zip(positive.T, scores.T, known.T)]
    return np.array([average_precision_score(y, s) if y.any() else np.nan for y, s in columns], dtype=float)


def ranked_average_precisions(scores: np.ndarray, labels: np.ndarray, *, interpolated: bool) -> np.ndarray:
    """Average precision of each class, images ranked one by one: equal scores keep the order of the rows.

    The mean, over the positives, of the precision at their rank (of all images up to it). ``interpolated``: of the best
    precision at this or any later rank, the area under PASCAL VOC's curve since 2010.

    Returns:
        (K,) float64, nan for a class without a positive.
    """
    scores, positive, known = _checked(scores, labels)
    precisions = np.full(scores.shape[1], np.nan)
    for k in np.flatnonzero(positive.any(0)):
        order = np.argsort(-scores[known[:, k], k], kind="stable")
        hits = positive[known[:, k], k][order]
        precision = hits.cumsum() / np.arange(1, hits.size + 1)
        if interpolated:
            precision = np.maximum.accumulate(precision[::-1])[::-1]
        precisions[k] = precision[hits].mean()
    return precisions


def mean_average_precision(scores: np.ndarray, labels: np.ndarray) -> float:
    """mAP: mean of :func:`average_precisions` over the classes that have a positive. None has: ValueError."""
    return mean_of_classes(average_precisions(scores, labels))


def mean_of_classes(precisions: np.ndarray) -> float:
    """Mean of (K,) average precisions over the classes that have a positive, not nan. None has: ValueError."""
    if np.isnan(precisions).all():
        raise ValueError("mAP is undefined: no class has a positive label.")
    return float(np.nanmean(precisions))


def f1_scores(predictions: np.ndarray, labels: np.ndarray, *, zero_division: float = 0.0) -> dict[str, float]:
    """Precision, recall and F1 of yes/no predictions, over classes (C) and overall (O).

    ``CF1`` is the mean of the classes' F1, the paper's macro F1; ``CF1-of-means`` is the F1 of ``CP`` and
    ``CR``, which many repositories call CF1. Means run over all K classes, and 0/0 is 0, scikit-learn's
    ``zero_division=0``: a class that is never predicted has precision 0, one without a positive recall 0, one
    with neither F1 0.

    Args:
        predictions: (N, K) bool.
        labels: (N, K); where they are -1, a prediction is neither right nor wrong.
        zero_division: what 0/0 is instead, as scikit-learn's option of that name.

    Returns:
        Fractions under ``CF1``, ``CF1-of-means``, ``OF1``, ``CP``, ``CR``, ``OP``, ``OR``.
    """
    predictions, positive, known = _checked(predictions, labels)
    predictions = predictions.astype(bool) & known
    hits = (predictions & positive).sum(0)  # (K,)
    predicted, positives = predictions.sum(0), positive.sum(0)
    cp = _ratio(hits, predicted, zero_division).mean()
    cr = _ratio(hits, positives, zero_division).mean()
    metrics = {
        "CF1": _ratio(2 * hits, predicted + positives, zero_division).mean(),
        "CF1-of-means": _ratio(2 * cp * cr, cp + cr),
        "OF1": _ratio(2 * hits.sum(), predicted.sum() + positives.sum(), zero_division),
        "CP": cp,
        "CR": cr,
        "OP": _ratio(hits.sum(), predicted.sum(), zero_division),
        "OR": _ratio(hits.sum(), positives.sum(), zero_division),
    }
    return {name: float(value) for name, value in metrics.items()}


def top_k_predictions(scores: np.ndarray, k: int = 3) -> np.ndarray:
    """(N, K) bool: the min(k, K) best classes of each image; of equal scores, the lower class index wins."""
    best = np.argsort(-np.asarray(scores), axis=1, kind="stable")[:, :k]
    predictions = np.zeros(np.shape(scores), dtype=bool)
    np.put_along_axis(predictions, best, True, axis=1)
    return predictions


def tune_threshold(scores: np.ndarray, labels: np.ndarray) -> float:
    """The one threshold for all classes that maximises CF1 + OF1; a class is predicted if score > threshold.

    The paper tunes "a class-independent confidence threshold" and does not say for what; CF1 and OF1 are what
    it reports, so they count equally. The search is exact: every cut between two distinct scores is tried.
    The threshold is the largest score left out (just under the lowest if all are in), which the dtype of the
    scores represents exactly; of equally good cuts, the highest. No positive label at all: ValueError.
    """
    scores, positive, known = _checked(scores, labels)
    positives = positive.sum(0)  # (K,)
    if not positives.any():
        raise ValueError("No threshold can be tuned: no class has a positive label.")
    order = np.argsort(-scores, axis=0, kind="stable")  # (N, K): best image first, per class
    ranked, hits, counted = (np.take_along_axis(x, order, axis=0) for x in (scores, positive, known))
    class_f1 = _ratio(2 * hits.cumsum(0), counted.cumsum(0) + positives)  # (N, K)
    # Lowering the threshold past a score changes one class's F1: running sums of the changes give every CF1.
    changes, hits, ranked = (x[counted] for x in (np.diff(class_f1, axis=0, prepend=0), hits, ranked))  # (known,)
    sweep = np.argsort(-ranked, kind="stable")
    cf1 = changes[sweep].cumsum() / scores.shape[1]
    of1 = 2 * hits[sweep].cumsum() / (np.arange(1, sweep.size + 1) + positives.sum())
    swept = ranked[sweep]
    left_out = np.append(swept[1:], np.nextafter(swept[-1], swept.dtype.type(-np.inf)))
    return float(left_out[np.argmax(np.where(left_out < swept, cf1 + of1, -1.0))])


def _ratio(numerator: np.ndarray, denominator: np.ndarray, zero_division: float = 0.0) -> np.ndarray:
    undefined = np.full(np.shape(denominator), zero_division, dtype=float)
    return np.divide(numerator, denominator, out=undefined, where=np.asarray(denominator) > 0)


def _checked(values: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``values``, and where labels are positive and where they are known, both (N, K) bool."""
    values, labels = np.asarray(values), np.asarray(labels).astype(np.int8)
    if values.ndim != 2 or values.shape != labels.shape:
        raise ValueError(f"Expected one shape (N, K), got {values.shape} and labels {labels.shape}.")
    if not np.isfinite(values).all():
        raise ValueError("The scores hold NaN or infinity.")
    return values, labels == 1, labels >= 0
