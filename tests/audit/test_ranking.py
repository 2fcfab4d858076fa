"""Which labels are suspicious, against the formula in plain loops."""

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from wsd_distill.audit import ranking
from wsd_distill.audit.ranking import calibrate_classes, rank_suspects, suspicion


@pytest.fixture
def data():
    """Labels of 400 photos and 3 classes drawn with sigmoid(x), scores of which the classes are shifted."""
    rng = np.random.default_rng(0)
    x = rng.normal([-2, 0, -3], 2, (400, 3))
    labels = (rng.random(x.shape) < expit(x)).astype(np.int8)
    labels[::7, 1] = -1
    return expit(0.5 * x + np.array([1, -1, 0])), labels


def test_without_a_prior_the_calibration_is_that_of_each_class_alone(data, monkeypatch):
    scores, labels = data
    monkeypatch.setattr(ranking, "SLOPE_STRENGTH", 1e-9)
    monkeypatch.setattr(ranking, "OFFSET_STRENGTH", 1e-9)
    found = calibrate_classes(scores, labels)
    for k in range(3):
        known = labels[:, k] >= 0
        x = logit(scores[:, k : k + 1])
        model = LogisticRegression(C=np.inf, tol=1e-8).fit(x[known], labels[known, k])
        np.testing.assert_allclose(found[:, k], model.decision_function(x), atol=1e-3)


def test_a_class_without_photos_has_the_common_calibration(data):
    scores, labels = data
    labels[:, 2] = -1
    found = calibrate_classes(scores, labels)
    scale, offset = ranking.fit_calibration(scores, labels)
    np.testing.assert_allclose(found[:, 2], scale * logit(scores[:, 2]) + offset, rtol=1e-6)


def test_suspicion(data):
    scores, labels = data
    p = expit(calibrate_classes(scores, labels))
    found = suspicion(scores, labels)
    for i in range(0, 400, 13):
        for k in range(3):
            known = labels[:, k] >= 0
            share = p[known, k].mean()
            odds = p[i, k] / (1 - p[i, k])
            if labels[i, k] == 1:
                odds = share / (1 - share) / odds
            expected = -1 if labels[i, k] < 0 else odds / (1 + odds)
            assert found[i, k] == pytest.approx(expected)


def test_flipped_labels_come_first_and_unknown_ones_never():
    rng = np.random.default_rng(1)
    truth = rng.random((300, 4)) < [0.5, 0.2, 0.1, 0.05]
    scores = np.where(truth, 0.95, 0.05) + rng.uniform(-0.02, 0.02, truth.shape)
    labels = truth.astype(np.int8)
    flips = [(3, 0), (10, 1), (11, 2), (200, 3)]
    for place in flips:
        labels[place] = 1 - labels[place]
    labels[50:60] = -1
    found = rank_suspects(scores, labels)
    assert {*zip(found.rows.tolist()[:4], found.classes.tolist()[:4])} == set(flips)
    assert len(found.rows) == 290 * 4 and not set(found.rows.tolist()) & set(range(50, 60))
    assert (np.diff(found.suspicion) <= 0).all()
    assert rank_suspects(scores, labels, 2).rows.tolist() == found.rows.tolist()[:2]
