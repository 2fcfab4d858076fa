"""Multi-label classification metrics as pure functions of arrays; all results are fractions in [0, 1].

N images, K classes. ``scores`` is (N, K), floating point and finite. ``labels`` is (N, K): 1 = positive, 0 = negative,
-1 = ignored; booleans are allowed. Other shapes and scores that are not finite raise ValueError.
"""

from __future__ import annotations

import numpy as np
from sklearn.metrics import average_precision_score


def average_precisions(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Compute the AP of each class with scikit-learn: not interpolated, equal scores share one rank.

    Returns:
        (K,) float64, nan for a class without positives.
    """
    scores, positive, valid = _checked(scores, labels)
    columns = [(y[v], s[v]) for y, s, v in zip(positive.T, scores.T, valid.T)]
    return np.array([average_precision_score(y, s) if y.any() else np.nan for y, s in columns], dtype=float)


def ranked_average_precisions(scores: np.ndarray, labels: np.ndarray, *, interpolated: bool) -> np.ndarray:
    """Compute the AP of each class with one rank per image: equal scores keep the order of the rows.

    AP is the mean precision at the ranks of the positives.

    Args:
        scores, labels: as in the module's description.
        interpolated: use the best precision at the same or any later rank, as PASCAL VOC since 2010.

    Returns:
        (K,) float64, nan for a class without positives.
    """
    scores, positive, valid = _checked(scores, labels)
    precisions = np.full(scores.shape[1], np.nan)
    for k in np.flatnonzero(positive.any(0)):
        order = np.argsort(-scores[valid[:, k], k], kind="stable")
        hits = positive[valid[:, k], k][order]
        precision = hits.cumsum() / np.arange(1, hits.size + 1)
        if interpolated:
            precision = np.maximum.accumulate(precision[::-1])[::-1]
        precisions[k] = precision[hits].mean()
    return precisions


def mean_average_precision(scores: np.ndarray, labels: np.ndarray) -> float:
    """Compute mAP, the mean of :func:`average_precisions` over classes with positives; ValueError if there are none."""
    return mean_of_classes(average_precisions(scores, labels))


def mean_of_classes(precisions: np.ndarray) -> float:
    """Average (K,) APs over classes with positives (not nan); ValueError if there are none."""
    if np.isnan(precisions).all():
        raise ValueError("mAP is undefined: no class has a positive label.")
    return float(np.nanmean(precisions))


def map_levels(precisions: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return levels to compare mAP with, in percent.

    Args:
        precisions: (K,) AP of each class, nan for a class without positives.
        labels: (N, K), as in the module's description.

    Returns:
        ``mAP-chance``, the expected mAP of random scores of many images: the mean share of positives, over the classes
        with positives; ``mAP-with-negatives``, the mAP over the classes that also have negatives, nan if none has.
    """
    positives, valid = (labels == 1).sum(axis=0), (labels >= 0).sum(axis=0)
    with_positives = positives > 0
    shares = positives[with_positives] / valid[with_positives]
    varied = precisions[with_positives & (positives < valid)]
    return {
        "mAP-chance": 100 * float(shares.mean()),
        "mAP-with-negatives": 100 * float(varied.mean()) if len(varied) else float("nan"),
    }


def describe_map(results: dict[str, float]) -> str:
    """Describe mAP beside its levels."""
    text = f"mAP {results['mAP']:.2f} (chance {results['mAP-chance']:.2f}"
    if results["mAP-with-negatives"] != results["mAP"]:
        text += f"; without the classes that every image has {results['mAP-with-negatives']:.2f}"
    return text + ")"


def f1_scores(predictions: np.ndarray, labels: np.ndarray, *, zero_division: float = 0.0) -> dict[str, float]:
    """Compute precision, recall and F1 of binary predictions, per class (C) and overall (O).

    ``CF1`` is the mean F1 of the classes, the paper's macro F1. ``CF1-of-means`` is the F1 of ``CP`` and ``CR``, which
    many repositories call CF1. Means are over all K classes. By default 0/0 is 0: a class that is never predicted has
    precision 0, a class without positives has recall 0, a class with neither has F1 0.

    Args:
        predictions: (N, K) bool.
        labels: (N, K); predictions for labels of -1 are ignored.
        zero_division: value of 0/0, as in scikit-learn.

    Returns:
        ``CF1``, ``CF1-of-means``, ``OF1``, ``CP``, ``CR``, ``OP`` and ``OR``.
    """
    predictions, positive, valid = _checked(predictions, labels)
    predictions = predictions.astype(bool) & valid
    counts = ((predictions & positive).sum(0), predictions.sum(0), positive.sum(0))  # (K,) each
    return {name: float(value) for name, value in f1_from_counts(*counts, zero_division).items()}


def f1_from_counts(
    hits: np.ndarray, predicted: np.ndarray, positives: np.ndarray, zero_division: float = 0.0
) -> dict[str, np.ndarray]:
    """Compute the metrics of :func:`f1_scores` from counts.

    Args:
        hits, predicted, positives: (..., K) numbers of true positives, of predictions and of positive labels.
        zero_division: value of 0/0.

    Returns:
        Arrays of shape (...) by name.
    """
    cp = _ratio(hits, predicted, zero_division).mean(-1)
    cr = _ratio(hits, positives, zero_division).mean(-1)
    all_hits, all_predicted, all_positives = (x.sum(-1) for x in (hits, predicted, positives))
    return {
        "CF1": _ratio(2 * hits, predicted + positives, zero_division).mean(-1),
        "CF1-of-means": _ratio(2 * cp * cr, cp + cr),
        "OF1": _ratio(2 * all_hits, all_predicted + all_positives, zero_division),
        "CP": cp,
        "CR": cr,
        "OP": _ratio(all_hits, all_predicted, zero_division),
        "OR": _ratio(all_hits, all_positives, zero_division),
    }


def top_k_predictions(scores: np.ndarray, k: int = 3) -> np.ndarray:
    """Return (N, K) bool: the min(k, K) best classes of each image; ties go to the lower class index."""
    best = np.argsort(-np.asarray(scores), axis=1, kind="stable")[:, :k]
    predictions = np.zeros(np.shape(scores), dtype=bool)
    np.put_along_axis(predictions, best, True, axis=1)
    return predictions


def tune_threshold(scores: np.ndarray, labels: np.ndarray) -> float:
    """Find the threshold, the same for all classes, that maximizes CF1 + OF1; scores from it on are predicted.

    The paper tunes "a class-independent confidence threshold" without giving the criterion; CF1 and OF1 are the
    metrics it reports. The search is exact: it tries every cut between two distinct scores. The threshold is halfway
    between both, so that scores which an exported model rounds in another way stay on their side, in the dtype of the
    scores; where nothing lies between them, or all are predicted, it is the lowest score that is predicted. Of equally
    good cuts the highest is used.

    Raises:
        ValueError: There is no positive label.
    """
    scores, positive, valid = _checked(scores, labels)
    positives = positive.sum(0)  # (K,)
    if not positives.any():
        raise ValueError("The threshold cannot be tuned: no class has a positive label.")
    order = np.argsort(-scores, axis=0, kind="stable")  # (N, K): best image first, per class
    ranked, hits, valid = (np.take_along_axis(x, order, axis=0) for x in (scores, positive, valid))
    class_f1 = _ratio(2 * hits.cumsum(0), valid.cumsum(0) + positives)  # (N, K)
    # Lowering the threshold past a score changes the F1 of one class: cumulative sums of the changes give every CF1.
    changes, hits, ranked = (x[valid] for x in (np.diff(class_f1, axis=0, prepend=0), hits, ranked))  # (valid,)
    sweep = np.argsort(-ranked, kind="stable")
    cf1 = changes[sweep].cumsum() / scores.shape[1]
    of1 = 2 * hits[sweep].cumsum() / (np.arange(1, sweep.size + 1) + positives.sum())
    swept = ranked[sweep]
    left_out = np.append(swept[1:], np.nextafter(swept[-1], swept.dtype.type(-np.inf)))
    best = np.argmax(np.where(left_out < swept, cf1 + of1, -1.0))
    halfway = (swept[best] + left_out[best]) / 2
    return float(halfway if halfway > left_out[best] else swept[best])


def _ratio(numerator: np.ndarray, denominator: np.ndarray, zero_division: float = 0.0) -> np.ndarray:
    undefined = np.full(np.shape(denominator), zero_division, dtype=float)
    return np.divide(numerator, denominator, out=undefined, where=np.asarray(denominator) > 0)


def _checked(values: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return ``values`` and (N, K) booleans: positive labels, and labels that are not ignored."""
    values, labels = np.asarray(values), np.asarray(labels).astype(np.int8)
    if values.ndim != 2 or values.shape != labels.shape:
        raise ValueError(f"Expected one shape (N, K), got {values.shape} and labels {labels.shape}.")
    if not np.isfinite(values).all():
        raise ValueError("The scores have NaN or infinity.")
    return values, labels == 1, labels >= 0
