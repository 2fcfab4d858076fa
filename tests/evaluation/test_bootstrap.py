import wsd_distill  # noqa: F401

# isort: split
import numpy as np
import pytest

from wsd_distill.evaluation.bootstrap import (
    METRIC_NAMES,
    compare,
    draw_weights,
    weighted_average_precisions,
    weighted_metric,
)
from wsd_distill.evaluation.metrics import average_precisions, f1_scores, top_k_predictions
from wsd_distill.evaluation.scores import Scores


@pytest.fixture
def make_scores():
    """A function: seed -> scores with ties, unknown labels, a class without positives and one without negatives."""

    def make(seed, images=37, classes=6, levels=8, labels_seed=0):
        labels = np.random.default_rng(labels_seed).choice([-1, 0, 0, 0, 1], size=(images, classes)).astype(np.int8)
        labels[:, 0], labels[:, 1] = np.minimum(labels[:, 0], 0), 1
        scores = np.random.default_rng(seed).integers(levels, size=(images, classes)) / levels
        return Scores(scores.astype(np.float32), labels, list("abcdef"), "", list(range(images)))

    return make


def repeat(found, weights):
    """Scores and labels with each image as often as its weight."""
    return np.repeat(found.scores, weights, axis=0), np.repeat(found.labels, weights, axis=0)


@pytest.mark.parametrize("levels", [1, 3, 8, 10**6])
def test_weighted_ap_equals_the_ap_of_resampled_arrays(make_scores, levels):
    found = make_scores(1, levels=levels)
    weights = np.hstack([np.ones((37, 1), int), draw_weights(37, 40, seed=0)])
    expected = np.stack([average_precisions(*repeat(found, column)) for column in weights.T], axis=1)
    computed = weighted_average_precisions(found.scores, found.labels, weights)
    np.testing.assert_allclose(computed, expected, rtol=0, atol=1e-14)
    assert np.isnan(computed[0]).all() and (computed[1] == 1).all()


def test_a_class_that_loses_its_positives_in_a_draw_is_left_out_of_that_draw():
    # Class 0 has one positive, the first image, ranked second. Class 1 has its positive at the top.
    found = Scores(np.array([[0.5, 0.9], [0.7, 0.1], [0.1, 0.2]]), np.array([[1, 1], [0, 0], [0, 0]]), ["a", "b"])
    weights = np.array([[1, 2, 1], [1, 0, 2], [1, 1, 0]])
    np.testing.assert_allclose(weighted_metric("mAP", found, weights), [75, 100, 100 * (1 / 3 + 1) / 2])
    found.labels[1] = [0, 1]  # without the first image, only class 1 is left, ranked first of one
    np.testing.assert_allclose(weighted_metric("mAP", found, np.array([[0], [1], [0]])), [100])


@pytest.mark.parametrize("metric", [name for name in METRIC_NAMES if name != "mAP"])
def test_weighted_f1_equals_the_metric_of_resampled_arrays(make_scores, metric):
    found, weights = make_scores(2), draw_weights(37, 20, seed=1)
    name, _, mode = metric.replace("-top3", "@top3").partition("@")
    expected = []
    for column in weights.T:
        scores, labels = repeat(found, column)
        predictions = top_k_predictions(scores) if mode == "top3" else scores >= (0.5 if mode else 0.375)
        expected.append(100 * f1_scores(predictions, labels)[name])
    np.testing.assert_allclose(weighted_metric(metric, found, weights, threshold=0.375), expected, atol=1e-12)


def test_draws_have_as_many_images_and_follow_the_seed():
    weights = draw_weights(10, 500, seed=3)
    assert weights.shape == (10, 500) and (weights.sum(axis=0) == 10).all()
    assert (weights == draw_weights(10, 500, seed=3)).all() and (weights != draw_weights(10, 500, seed=4)).any()
    assert abs((weights == 0).mean() - 0.9**10) < 0.02  # an image is missing with probability (1 - 1/N)^N


def test_comparison_of_seeds_equals_a_plain_loop(make_scores):
    a, b = [make_scores(seed) for seed in (1, 2, 3)], [make_scores(seed) for seed in (4, 5, 6)]
    weights = draw_weights(37, 50, seed=0)
    found = compare(a, b, "mAP", weights)

    def mean_ap(run, column):
        return 100 * np.nanmean(average_precisions(*repeat(run, column)))

    ones = np.ones(37, int)
    assert found.a == pytest.approx([mean_ap(run, ones) for run in a])
    assert found.b == pytest.approx([mean_ap(run, ones) for run in b])
    assert found.differences == pytest.approx([y - x for x, y in zip(found.a, found.b)])
    draws = [np.mean([mean_ap(y, w) - mean_ap(x, w) for x, y in zip(a, b)]) for w in weights.T]
    assert found.interval == pytest.approx(np.percentile(draws, [2.5, 97.5]).tolist())
    assert found.share_above == np.mean(np.array(draws) > 0)


def test_a_method_against_itself_has_no_difference(make_scores):
    run = make_scores(1)
    found = compare([run], [run, run], "mAP", draw_weights(37, 20, seed=0))
    assert found.differences == [0, 0] and found.interval == (0, 0) and found.share_above == 0


def test_runs_that_cannot_be_paired_and_draws_without_positives_are_errors(make_scores):
    run = make_scores(1)
    with pytest.raises(ValueError, match="A has 2 runs and B has 3: give as many of each"):
        compare([run] * 2, [run] * 3, "mAP", draw_weights(37, 5, seed=0))
    two = Scores(np.array([[0.1], [0.2]]), np.array([[1], [0]]), ["a"])
    with pytest.raises(ValueError, match="mAP is undefined for draws without any positive label"):
        compare([two], [two], "mAP", draw_weights(2, 50, seed=0))
