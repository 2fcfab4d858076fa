"""Calibration, thresholds of classes, intervals."""

import numpy as np
import pytest
from scipy.special import expit

from wsd_distill.evaluation.decisions import (
    calibrate,
    choose_thresholds,
    class_gains,
    class_intervals,
    fit_calibration,
    metric_intervals,
)
from wsd_distill.evaluation.metrics import average_precisions, f1_scores, tune_threshold
from wsd_distill.evaluation.scores import Scores


def draw(n, offsets, scale=1.0, seed=0):
    """Labels drawn with the probabilities sigmoid(x), and scores sigmoid((x - offset) / scale)."""
    rng = np.random.default_rng(seed)
    x = rng.normal(-1, 2, (n, len(offsets)))
    labels = (rng.random(x.shape) < expit(x)).astype(int)
    return expit((x - np.array(offsets)) / scale), labels


def test_calibration_finds_the_distortion_that_made_the_scores():
    scores, labels = draw(20000, [0.5, 0.5], scale=2.0)  # x = 2 * logit(score) + 0.5
    scale, offset = fit_calibration(scores, labels)
    assert scale == pytest.approx(2.0, abs=0.05) and offset == pytest.approx(0.5, abs=0.05)
    p = calibrate(scores, scale, offset)
    for low in np.arange(0, 1, 0.2):
        rows = (p > low) & (p < low + 0.2)
        assert labels[rows].mean() == pytest.approx(p[rows].mean(), abs=0.02)
    np.testing.assert_array_equal(np.argsort(p, axis=0), np.argsort(scores, axis=0))


def test_calibration_of_separable_scores_has_platts_targets():
    """Logits of 1 and -1; 2 positives and 2 negatives have the targets 3/4 and 1/4, 1 and 3 the targets 2/3 and 1/5."""
    low, high = expit([-1.0, 1.0])
    for labels, expected in (([1, 1, 0, 0], (np.log(3), 0)), ([1, 0, 0, 0], (1.5 * np.log(2), -0.5 * np.log(2)))):
        found = np.array(labels)[:, None]
        assert fit_calibration(np.where(found == 1, high, low), found) == pytest.approx(expected, abs=1e-4)


def test_unknown_labels_do_not_change_the_calibration():
    scores, labels = draw(300, [0.0])
    more = np.concatenate([scores, [[0.99]] * 50]), np.concatenate([labels, [[-1]] * 50])
    assert fit_calibration(*more) == pytest.approx(fit_calibration(scores, labels))


def test_calibration_never_turns_the_order_round():
    scores, labels = draw(200, [0.0])
    assert fit_calibration(1 - scores, labels) == (1.0, 0.0)
    with pytest.raises(ValueError, match="needs positive and negative labels"):
        fit_calibration(scores, np.ones_like(labels))


def test_thresholds_per_class_where_classes_differ():
    scores, labels = draw(2000, [-2.0, 0.0, 2.0])
    found = choose_thresholds(scores, labels)
    assert found.strength is not None and found.gain > 2 * found.error
    assert found.values[0] > found.common > found.values[2]
    own = [tune_threshold(scores[:, [k]], labels[:, [k]]) for k in range(3)]
    assert all(min(t, found.common) <= v <= max(t, found.common) for t, v in zip(own, found.values))
    test_scores, test_labels = draw(2000, [-2.0, 0.0, 2.0], seed=1)
    f1 = [f1_scores(test_scores >= t, test_labels)["CF1"] for t in (found.values, found.common)]
    assert f1[0] > f1[1] + 0.02


def test_one_threshold_where_classes_are_alike():
    scores, labels = draw(150, [0.0] * 6)
    found = choose_thresholds(scores, labels)
    assert found.strength is None and found.values.tolist() == [found.common] * 6
    assert found.common == tune_threshold(scores, labels)


def test_a_class_without_positives_has_the_common_threshold():
    scores, labels = draw(2000, [-2.0, 2.0, 0.0])
    labels[:, 2] = 0
    found = choose_thresholds(scores, labels)
    assert found.strength is not None and found.values[2] == found.common


def test_intervals():
    scores, labels = draw(400, [0.0, 0.0, 0.0])
    labels[:, 2] = 0
    found = Scores(scores, labels, ["a", "b", "c"])
    intervals = metric_intervals(found, np.array([0.4, 0.5, 0.5]), num_draws=200)
    value, low, high = intervals["mAP"]
    assert value == pytest.approx(100 * np.nanmean(average_precisions(scores, labels)))
    assert low < value < high and high - low < 12
    f1 = f1_scores(scores >= [0.4, 0.5, 0.5], labels)
    assert intervals["CF1"][0] == pytest.approx(100 * f1["CF1"]) and intervals["OF1"][0] == pytest.approx(
        100 * f1["OF1"]
    )
    classes = class_intervals(found, num_draws=200)
    assert [c[0] for c in classes[:2]] == pytest.approx((100 * average_precisions(scores, labels)[:2]).tolist())
    assert all(low < value < high for value, low, high in classes[:2]) and np.isnan(classes[2]).all()
    assert class_gains(found, found, num_draws=20)[:2] == [(0, 0, 0)] * 2  # paired: of the same draws
    narrow = class_intervals(Scores(*(np.tile(x, (4, 1)) for x in (scores, labels)), ["a", "b", "c"]), num_draws=200)
    assert narrow[0][2] - narrow[0][1] < 0.7 * (classes[0][2] - classes[0][1])  # half, from four times the images
