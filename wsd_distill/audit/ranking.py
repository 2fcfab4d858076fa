"""How suspicious each label is, from scores of models that were not trained on it.

N photos, K classes. Labels are 1 = present, 0 = absent, -1 = unknown; unknown ones are never suspects.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import expit, logit

from wsd_distill.evaluation.decisions import fit_calibration

SLOPE_STRENGTH, OFFSET_STRENGTH = 80.0, 1.0  # inverse variances of a class's slope and offset around the common ones
_EPS, _STEPS = 1e-6, 30


class Ranking(NamedTuple):
    """M labels, the most suspicious first."""

    rows: np.ndarray  # (M,) photo
    classes: np.ndarray  # (M,)
    suspicion: np.ndarray  # (M,) in (0, 1)


def rank_suspects(scores: np.ndarray, labels: np.ndarray, top: int | None = None) -> Ranking:
    """Rank the known labels by :func:`suspicion`; ties keep the order of photos and classes.

    Args:
        scores: (N, K) probabilities.
        labels: (N, K).
        top: number of labels; None: all.
    """
    values = suspicion(scores, labels)
    order = np.argsort(-values, axis=None, kind="stable")[: int((labels >= 0).sum())][:top]
    rows, classes = np.unravel_index(order, values.shape)
    return Ranking(rows, classes, values[rows, classes])


def suspicion(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Compute how suspicious each label is, in (0, 1), and -1 for unknown labels.

    With p the probability calibrated on these scores (:func:`calibrate_classes`) and q its mean over the photos, the
    share of the class, the odds are p / (1 - p) for an absent label, and q / (1 - q) divided by p / (1 - p) for a
    present one.

    They follow from Bayes' rule, up to the same factor for all labels, if as many labels of each class are missing as
    are wrong. ``abs(label - p)`` supposes instead that an absent label is wrong as often as a present one. Then a
    present label of a rare class looks wrong in every photo with a small object, because p is low in nearly all photos.

    Args:
        scores: (N, K) probabilities.
        labels: (N, K).
    """
    known, evidence = labels >= 0, calibrate_classes(scores, labels)
    share = (known * expit(evidence)).sum(0) / np.maximum(1, known.sum(0))
    prior = logit(np.clip(share, _EPS, 1 - _EPS))
    return np.where(known, expit(np.where(labels == 1, prior - evidence, evidence)), -1.0)


def calibrate_classes(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Compute calibrated logits (N, K): Platt's calibration, fitted to these labels, for each class.

    Slope and offset of a class have a Gaussian prior around those of the common calibration of all classes, so that
    classes with few photos keep these. The scores have to be of models that were not trained on the labels.
    """
    scale, offset = fit_calibration(scores, labels)
    common = scale * logit(np.clip(scores.astype(np.float64), _EPS, 1 - _EPS)) + offset
    known, present = (labels >= 0).astype(float), labels == 1
    slopes, offsets = np.ones(labels.shape[1]), np.zeros(labels.shape[1])
    for _ in range(_STEPS):  # Newton's method, all classes at once
        p = expit(slopes * common + offsets)
        error, weight = known * (p - present), known * p * (1 - p)
        gradient = np.stack([(error * common).sum(0), error.sum(0)], 1)
        gradient += np.stack([SLOPE_STRENGTH * (slopes - 1), OFFSET_STRENGTH * offsets], 1)
        mixed = (weight * common).sum(0)
        curvature = (weight * common**2).sum(0) + SLOPE_STRENGTH, mixed, mixed, weight.sum(0) + OFFSET_STRENGTH
        step = np.linalg.solve(np.stack(curvature, 1).reshape(-1, 2, 2), gradient[..., None])[..., 0]
        slopes, offsets = slopes - step[:, 0], offsets - step[:, 1]
    return slopes * common + offsets
