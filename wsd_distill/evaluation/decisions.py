"""From scores to decisions: a calibration and thresholds chosen on validation images, and intervals of metrics.

N images, K classes. Labels are 1 = positive, 0 = negative, -1 = unknown; unknown labels count in nothing here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from .bootstrap import draw_weights, weighted_average_precisions, weighted_metric
from .metrics import f1_scores, tune_threshold
from .scores import Scores

STRENGTHS = (5.0, 20.0, 80.0)  # positives that the common threshold counts for
_SPLITS = 10  # of the validation images into halves
_EPS = 1e-6


@dataclass(frozen=True)
class Thresholds:
    """Thresholds of K classes.

    Attributes:
        values: (K,); a label is predicted from its threshold on, as in ``Tagger``.
        common: the one threshold that is best for all classes.
        strength: positives that the common one counts for; None: ``values`` is the common one for every class.
        gain, error: of CF1 + OF1 over the common threshold on held-out halves of the validation images, in points:
            mean and standard error.
    """

    values: np.ndarray
    common: float
    strength: float | None
    gain: float
    error: float


def fit_calibration(scores: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Fit Platt's calibration (1999), p = sigmoid(scale * logit(score) + offset), one for all classes.

    The targets are Platt's, (N+ + 1) / (N+ + 2) for N+ positive labels and 1 / (N- + 2) for N- negative ones, so that
    the scale stays finite where a score separates them.

    Returns:
        scale > 0 and offset; 1 and 0 if the fit would turn the order of scores round.

    Raises:
        ValueError: the labels are all positive or all negative.
    """
    known = labels >= 0
    x, positive = _logit(scores[known])[:, None], labels[known] == 1
    counts = positive.sum(), (~positive).sum()
    if not min(counts):
        raise ValueError("the calibration needs positive and negative labels in the validation images")
    targets = np.where(positive, (counts[0] + 1) / (counts[0] + 2), 1 / (counts[1] + 2))
    classes, weights = np.repeat([1, 0], len(x)), np.concatenate([targets, 1 - targets])
    model = LogisticRegression(C=np.inf, tol=1e-6).fit(np.tile(x, (2, 1)), classes, sample_weight=weights)
    scale, offset = float(model.coef_[0, 0]), float(model.intercept_[0])
    return (scale, offset) if scale > 0 else (1.0, 0.0)


def calibrate(scores: np.ndarray, scale: float, offset: float) -> np.ndarray:
    """Apply the calibration to scores of any shape; their order stays."""
    return expit(scale * _logit(scores) + offset)


def choose_thresholds(scores: np.ndarray, labels: np.ndarray, seed: int = 0) -> Thresholds:
    """Choose thresholds on validation images: the common one, or one per class where that holds on held-out halves.

    The threshold of a class is the one with its best F1, shrunk towards the common one on the scale of logits by
    ``strength`` / (positives + ``strength``). Both kinds are tuned on one half and compared on the other.

    Args:
        scores, labels: (N, K).

    Raises:
        ValueError: there is no positive label.
    """
    common = tune_threshold(scores, labels)
    gains = {strength: _held_out_gains(scores, labels, strength, seed) for strength in STRENGTHS}
    best = max(gains, key=lambda strength: float(np.mean(gains[strength])))
    gain = float(np.mean(gains[best]))
    error = float(np.std(gains[best], ddof=1) / len(gains[best]) ** 0.5)
    if gain <= 2 * error:
        return Thresholds(np.full(scores.shape[1], common), common, None, gain, error)
    return Thresholds(_shrunk(scores, labels, common, best), common, best, gain, error)


def metric_intervals(
    found: Scores, thresholds: np.ndarray | float, num_draws: int = 1000, seed: int = 0
) -> dict[str, tuple[float, float, float]]:
    """Compute mAP, CF1 and OF1 with their 95 % intervals of a bootstrap over images, in percent.

    Args:
        thresholds: (K,) or one for all classes, which no draw changes.

    Returns:
        Metric -> value, lower and upper end.
    """
    weights = draw_weights(len(found.scores), num_draws, seed)
    columns = np.hstack([np.ones((len(weights), 1), weights.dtype), weights])
    values = {m: weighted_metric(m, found, columns, thresholds) for m in ("mAP", "CF1", "OF1")}
    return {metric: _interval(x) for metric, x in values.items()}


def class_intervals(found: Scores, num_draws: int = 500, seed: int = 0) -> list[tuple[float, float, float]]:
    """Compute each class's AP with its 95 % interval, in percent; nan for a class without positives."""
    return [_interval(row) for row in _draw_precisions(found, num_draws, seed)]


def class_gains(plain: Scores, found: Scores, num_draws: int = 500, seed: int = 0) -> list[tuple[float, float, float]]:
    """Compute each class's gain in AP over ``plain`` on the same images, in points, with a paired 95 % interval."""
    gains = _draw_precisions(found, num_draws, seed) - _draw_precisions(plain, num_draws, seed)
    return [_interval(row) for row in gains]


def _draw_precisions(found: Scores, num_draws: int, seed: int) -> np.ndarray:
    """APs in percent of all images, and of each draw: (K, 1 + D)."""
    weights = draw_weights(len(found.scores), num_draws, seed)
    columns = np.hstack([np.ones((len(weights), 1), weights.dtype), weights])
    return 100 * weighted_average_precisions(found.scores, found.labels, columns)


def _interval(values: np.ndarray) -> tuple[float, float, float]:
    """The first value, and quantiles of the others that are defined."""
    draws = values[1:][~np.isnan(values[1:])]
    if np.isnan(values[0]) or not len(draws):
        return (float("nan"),) * 3
    low, high = np.quantile(draws, (0.025, 0.975)).tolist()
    return float(values[0]), low, high


def _held_out_gains(scores: np.ndarray, labels: np.ndarray, strength: float, seed: int) -> np.ndarray:
    """Gains in CF1 + OF1, in points, of thresholds per class over the common one, on halves not used to tune them."""
    rng, gains = np.random.default_rng(seed), []
    for _ in range(_SPLITS):
        order = rng.permutation(len(scores))
        halves = order[: len(order) // 2], order[len(order) // 2 :]
        for tuned, tested in (halves, halves[::-1]):
            if not (labels[tuned] == 1).any() or not (labels[tested] == 1).any():
                continue
            common = tune_threshold(scores[tuned], labels[tuned])
            own = _shrunk(scores[tuned], labels[tuned], common, strength)
            gains.append(_total_f1(scores, labels, tested, own) - _total_f1(scores, labels, tested, common))
    return np.array(gains if len(gains) > 1 else [0.0, 0.0])


def _total_f1(scores: np.ndarray, labels: np.ndarray, rows: np.ndarray, threshold: np.ndarray | float) -> float:
    found = f1_scores(scores[rows] >= threshold, labels[rows])
    return 100 * (found["CF1"] + found["OF1"])


def _shrunk(scores: np.ndarray, labels: np.ndarray, common: float, strength: float) -> np.ndarray:
    values = np.full(scores.shape[1], common, dtype=float)
    for k, positives in enumerate((labels == 1).sum(0)):
        if positives:
            own = tune_threshold(scores[:, k : k + 1], labels[:, k : k + 1])
            weight = positives / (positives + strength)
            values[k] = expit(weight * _logit(own) + (1 - weight) * _logit(common))
    return values


def _logit(scores: np.ndarray | float) -> np.ndarray:
    return logit(np.clip(np.asarray(scores, dtype=np.float64), _EPS, 1 - _EPS))
