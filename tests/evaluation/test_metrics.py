import numpy as np
import pytest
from sklearn.metrics import precision_recall_fscore_support

from wsd_distill.evaluation.metrics import (
    average_precisions,
    f1_scores,
    mean_average_precision,
    top_k_predictions,
    tune_threshold,
)


def random_case(seed, images=40, classes=6, levels=None):
    """Random scores and labels; ``levels``: number of distinct scores, for ties."""
    rng = np.random.default_rng(seed)
    labels = rng.random((images, classes)) < np.linspace(0.1, 0.5, classes)
    labels[0] = True
    scores = 0.3 * labels + 0.7 * rng.random((images, classes))
    if levels:
        scores = np.floor(scores * levels) / levels
    return scores.astype(np.float32), labels


def column(*values, dtype=np.float32):
    return np.array(values, dtype=dtype)[:, None]


def test_average_precision_groups_ties():
    # Above 0.9: precision 1 at recall 1/2. The two of 0.8 come together: precision 2/3 at recall 1.
    result = average_precisions(column(0.9, 0.8, 0.8, 0.1), column(1, 0, 1, 0))
    assert result == pytest.approx([0.5 * 1 + 0.5 * 2 / 3])


def test_average_precision_of_constant_scores_is_the_fraction_of_positives():
    assert average_precisions(column(0, 0, 0, 0), column(1, 0, 0, 0)) == pytest.approx([0.25])


def test_average_precision_is_not_interpolated():
    # Precision 1/2 at the first positive, 2/3 at the second; with VOC's interpolation 2/3.
    assert average_precisions(column(0.9, 0.8, 0.7), column(0, 1, 1)) == pytest.approx([(1 / 2 + 2 / 3) / 2])


def ap_by_loop(scores, labels):
    """Sum of precision times increase of recall over falling distinct scores; -1 is ignored."""
    area, recall = 0.0, 0.0
    for cut in sorted({s for s, y in zip(scores.tolist(), labels.tolist()) if y >= 0}, reverse=True):
        found = [y for s, y in zip(scores.tolist(), labels.tolist()) if s >= cut and y >= 0]
        reached = sum(found) / sum(y for y in labels.tolist() if y > 0)
        area, recall = area + (reached - recall) * sum(found) / len(found), reached
    return area


@pytest.mark.parametrize("levels", [None, 4, 1])
def test_average_precision_equals_a_plain_loop_over_distinct_scores(levels):
    scores, labels = random_case(1, levels=levels)
    expected = [ap_by_loop(s, y) for s, y in zip(scores.T, labels.T)]
    assert average_precisions(scores, labels) == pytest.approx(expected, abs=1e-12)
    assert mean_average_precision(scores, labels) == pytest.approx(sum(expected) / len(expected), abs=1e-12)


def test_class_without_positive_is_nan_and_excluded_from_map():
    scores = np.array([[0.9, 0.9, 0.9], [0.1, 0.95, 0.1]])
    labels = np.array([[1, 1, 0], [0, 0, 0]])
    np.testing.assert_array_equal(average_precisions(scores, labels), [1, 0.5, np.nan])
    assert mean_average_precision(scores, labels) == 0.75
    with pytest.raises(ValueError, match="no class has a positive"):
        mean_average_precision(scores, np.zeros_like(labels))


def test_the_two_cf1_differ():
    labels = np.array([[1, 1], [1, 0], [0, 0], [0, 0]], dtype=bool)
    predictions = np.array([[1, 1], [0, 1], [0, 0], [0, 0]], dtype=bool)
    # Class 0: precision 1, recall 1/2. Class 1: precision 1/2, recall 1. Both: F1 2/3. Overall: 2 of 3.
    third = pytest.approx(2 / 3)
    assert f1_scores(predictions, labels) == {
        "CF1": third,
        "CF1-of-means": 0.75,
        "OF1": third,
        "CP": 0.75,
        "CR": 0.75,
        "OP": third,
        "OR": third,
    }


def test_class_without_positive_and_prediction_is_zero():
    labels = np.array([[1, 0]], dtype=bool)
    metrics = f1_scores(labels, labels)
    assert metrics == {"CF1": 0.5, "CF1-of-means": 0.5, "OF1": 1, "CP": 0.5, "CR": 0.5, "OP": 1, "OR": 1}
    assert set(f1_scores(~labels & False, labels).values()) == {0.0}


@pytest.mark.parametrize("seed", range(3))
def test_f1_equals_scikit_learn(seed):
    scores, labels = random_case(seed)
    labels[:, 2] = False  # no positive
    predictions = scores > 0.6
    predictions[:, 3] = False  # never predicted
    metrics = f1_scores(predictions, labels)
    for average, keys in (("macro", ("CP", "CR", "CF1")), ("micro", ("OP", "OR", "OF1"))):
        expected = precision_recall_fscore_support(labels, predictions, average=average, zero_division=0)[:3]
        assert [metrics[key] for key in keys] == pytest.approx(list(expected), abs=1e-12)


def test_top_3_breaks_ties_by_class_index():
    scores = np.array([[0.5, 0.5, 0.5, 0.5], [0.1, 0.2, 0.2, 0.3], [0.1, 0.4, 0.4, 0.1]])
    expected = [[1, 1, 1, 0], [0, 1, 1, 1], [1, 1, 1, 0]]
    np.testing.assert_array_equal(top_k_predictions(scores, k=3), np.array(expected, dtype=bool))


def test_top_3_of_many_equal_scores_is_the_first_three():
    scores = np.tile([0.2, 0.5], (1, 100))
    assert np.flatnonzero(top_k_predictions(scores, k=3)).tolist() == [1, 3, 5]


def test_top_3_of_two_classes_is_both():
    assert top_k_predictions(np.array([[0.1, 0.0]]), k=3).tolist() == [[True, True]]


def test_threshold_is_halfway_between_what_is_predicted_and_what_is_left_out():
    assert tune_threshold(column(0.75, 0.5, 0.25, 0.125), column(1, 1, 0, 0)) == 0.375


def test_threshold_is_the_lowest_score_when_all_are_positive():
    assert tune_threshold(column(0.75, 0.5), column(1, 1)) == 0.5


@pytest.mark.parametrize("low", [0.3, 0.30000004, 0.5, 1 - 2**-24])
def test_threshold_separates_neighbouring_floats(low):
    scores = column(np.nextafter(np.float32(low), np.float32(2)), low)
    assert tune_threshold(scores, column(1, 0)) == scores[0, 0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("levels", [None, 5, 1])
@pytest.mark.parametrize("seed", range(3))
def test_threshold_by_brute_force(seed, levels, dtype):
    scores, labels = random_case(seed, images=25, classes=4, levels=levels)
    scores = scores.astype(dtype)
    labels[:, 1] = False

    def objective(threshold):
        metrics = f1_scores(scores >= threshold, labels)
        return metrics["CF1"] + metrics["OF1"]

    best = max(objective(threshold) for threshold in np.unique(scores))
    assert objective(tune_threshold(scores, labels)) == pytest.approx(best, abs=1e-12)


def ignore_some(labels, seed, fraction=0.2):
    """Set a fraction of the labels to -1, as int8."""
    rng = np.random.default_rng(100 + seed)
    return np.where(rng.random(labels.shape) < fraction, -1, labels).astype(np.int8)


def test_average_precision_without_the_ignored_images_equals_a_plain_loop():
    scores, labels = random_case(3, levels=9)
    ignoring = ignore_some(labels, 3)
    expected = [ap_by_loop(s, y) for s, y in zip(scores.T, ignoring.T)]
    assert average_precisions(scores, ignoring) == pytest.approx(expected, abs=1e-12)
    assert average_precisions(scores, labels) != pytest.approx(expected, abs=1e-3)


def test_f1_equals_scikit_learn_without_the_ignored_images():
    scores, labels = random_case(4)
    ignoring, predictions = ignore_some(labels, 4), scores > 0.5
    known = ignoring >= 0
    options = {"average": "binary", "zero_division": 0}
    per_class = [
        precision_recall_fscore_support(labels[k, c], predictions[k, c], **options)[:3] for c, k in enumerate(known.T)
    ]
    overall = precision_recall_fscore_support(labels[known], predictions[known], **options)[:3]
    metrics = f1_scores(predictions, ignoring)
    assert [metrics[key] for key in ("CP", "CR", "CF1")] == pytest.approx(np.mean(per_class, axis=0), abs=1e-12)
    assert [metrics[key] for key in ("OP", "OR", "OF1")] == pytest.approx(overall, abs=1e-12)


def test_a_class_with_ignored_images_only_is_nan():
    np.testing.assert_array_equal(average_precisions(column(0.9, 0.8), column(-1, -1, dtype=np.int8)), [np.nan])


def test_threshold_without_the_ignored_images():
    # Were the ignored 0.5 positive, the threshold would be 0.375; were it negative, 0.625.
    assert tune_threshold(column(0.75, 0.5, 0.25), column(1, -1, 0, dtype=np.int8)) == 0.5
    assert tune_threshold(column(0.75, 0.5, 0.25), column(1, 0, -1, dtype=np.int8)) == 0.625
    assert tune_threshold(column(0.75, 0.5, 0.25), column(-1, 1, 0, dtype=np.int8)) == 0.375


@pytest.mark.parametrize("seed", range(8))
def test_threshold_without_the_ignored_images_by_brute_force(seed):
    scores, labels = random_case(seed, images=25, classes=4)
    labels = ignore_some(labels, seed, np.linspace(0, 0.8, 4))

    def objective(threshold):
        metrics = f1_scores(scores >= threshold, labels)
        return metrics["CF1"] + metrics["OF1"]

    best = max(objective(threshold) for threshold in np.unique(scores))
    assert objective(tune_threshold(scores, labels)) == pytest.approx(best, abs=1e-12)


def test_bad_input_is_an_error():
    with pytest.raises(ValueError, match="no class has a positive"):
        tune_threshold(column(0.5), column(0))
    with pytest.raises(ValueError, match=r"\(1, 1\) and labels \(2, 1\)"):
        average_precisions(column(0.5), column(1, 0))
    with pytest.raises(ValueError, match="NaN"):
        average_precisions(column(0.5, np.nan), column(1, 0))
