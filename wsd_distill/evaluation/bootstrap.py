"""Paired bootstrap over test images: the difference of two methods and its interval (Efron and Tibshirani, 1993).

N images, K classes, D draws. A draw is a weight per image, the number of times that the image was drawn. The metrics
are computed from the weights, without resampled arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .metrics import f1_from_counts, top_k_predictions
from .scores import Scores

F1_METRICS = ("CF1", "CF1-of-means", "OF1", "CP", "CR", "OP", "OR")
TUNED, TOP_3, FIXED = "", "-top3", "@0.5"
METRIC_NAMES = ("mAP", *(f"{metric}{mode}" for mode in (TUNED, FIXED, TOP_3) for metric in F1_METRICS))


@dataclass(frozen=True)
class Comparison:
    """A metric of two methods A and B, in percent.

    Attributes:
        a, b: values of the runs (seeds).
        differences: B - A of each pair of runs.
        interval: 2.5 and 97.5 % quantiles, over draws, of the mean difference over runs. They show the effect of the
            choice of test images, not of the seeds.
        share_above: share of draws, in [0, 1], in which the mean of B is above the mean of A.
    """

    a: list[float]
    b: list[float]
    differences: list[float]
    interval: tuple[float, float]
    share_above: float


def needs_threshold(metric: str) -> bool:
    """Return whether the metric uses a tuned threshold."""
    return metric in F1_METRICS


def draw_weights(num_images: int, num_draws: int, seed: int) -> np.ndarray:
    """Draw ``num_images`` images with replacement, ``num_draws`` times: (N, D) int64 counts."""
    shares = np.full(num_images, 1 / num_images)
    return np.ascontiguousarray(np.random.default_rng(seed).multinomial(num_images, shares, size=num_draws).T)


def compare(
    a: Sequence[Scores],
    b: Sequence[Scores],
    metric: str,
    weights: np.ndarray,
    thresholds: tuple[Sequence[float], Sequence[float]] | None = None,
) -> Comparison:
    """Compare method B with method A on the same images.

    Args:
        a, b: scores of the runs (seeds) of each method, paired in this order; one run is compared with all of the other
            method. All have the same images, labels and classes (:func:`.check_same_images`).
        metric: one of ``METRIC_NAMES``.
        weights: (N, D) of :func:`draw_weights`, the same for all runs.
        thresholds: thresholds of the runs of A and of B, which no draw changes; for metrics that need one.

    Raises:
        ValueError: The numbers of runs are different and none is 1, or a draw has no positive label.
    """
    if len(a) != len(b) and 1 not in (len(a), len(b)):
        raise ValueError(f"A has {len(a)} runs and B has {len(b)}: give as many of each, or one of A or B")
    all_images = np.ones((len(weights), 1), weights.dtype)
    columns = np.hstack([all_images, weights])  # the first: the metric itself
    values = [
        np.stack([weighted_metric(metric, run, columns, t) for run, t in zip(runs, per_run)])  # (runs, 1 + D)
        for runs, per_run in zip((a, b), thresholds or ([np.nan] * len(a), [np.nan] * len(b)))
    ]
    difference = values[1] - values[0]
    if np.isnan(difference).any():
        raise ValueError(f"{metric} is undefined for draws without any positive label: the images are too few")
    draws = difference[:, 1:].mean(axis=0)
    low, high = np.quantile(draws, (0.025, 0.975)).tolist()
    a_values, b_values, differences = (x[:, 0].tolist() for x in (*values, difference))
    return Comparison(a_values, b_values, differences, (low, high), float((draws > 0).mean()))


def weighted_metric(
    metric: str, found: Scores, weights: np.ndarray, threshold: float | np.ndarray = np.nan
) -> np.ndarray:
    """Compute (D,) values of a metric, in percent, with (N, D) weights of the images; nan for mAP without positives."""
    if metric == "mAP":
        precisions = weighted_average_precisions(found.scores, found.labels, weights)
        defined = ~np.isnan(precisions)
        with np.errstate(invalid="ignore"):
            return 100 * np.where(defined, precisions, 0).sum(axis=0) / defined.sum(axis=0)
    if metric.endswith(TOP_3):
        predictions = top_k_predictions(found.scores, k=3)
    else:
        predictions = found.scores >= (0.5 if metric.endswith(FIXED) else threshold)
    predictions &= found.labels >= 0
    positive = found.labels == 1
    masks = (predictions & positive, predictions, positive)
    counts = (weights.T.astype(float) @ mask for mask in masks)  # (D, K) each
    return 100 * f1_from_counts(*counts)[metric.removesuffix(TOP_3).removesuffix(FIXED)]


def weighted_average_precisions(scores: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Compute the AP of :func:`.average_precisions` with images repeated as often as their weights.

    AP is the sum, over the distinct scores of positives, of the precision at the score times the gained recall.

    Args:
        scores, labels: (N, K), as in :mod:`.metrics`.
        weights: (N, D) integers >= 0.

    Returns:
        (K, D), nan for a class whose positives all have weight 0.
    """
    precisions = np.full((scores.shape[1], weights.shape[1]), np.nan)
    for k in np.flatnonzero((labels == 1).any(axis=0)):
        rows = np.flatnonzero(labels[:, k] >= 0)
        rows = rows[np.argsort(-scores[rows, k], kind="stable")]
        ranked, positives = scores[rows, k], np.flatnonzero(labels[rows, k] == 1)
        # Equal scores share one rank, the last of them: only ranks of positives change the recall.
        last = np.searchsorted(-ranked, -ranked[positives], side="right")
        ranks, first_positive = np.unique(last, return_index=True)
        starts = np.append(0, ranks[:-1])
        hits = np.add.reduceat(weights[rows[positives]], first_positive, axis=0)  # (ranks, D)
        counts = np.add.reduceat(weights[rows[: ranks[-1]]], starts, axis=0).cumsum(axis=0)
        all_hits = hits.cumsum(axis=0)
        gains = np.divide(hits * all_hits, counts, out=np.zeros(hits.shape), where=counts > 0)
        np.divide(gains.sum(axis=0), all_hits[-1], out=precisions[k], where=all_hits[-1] > 0)
    return precisions
