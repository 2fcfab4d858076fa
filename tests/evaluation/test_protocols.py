"""Protocols against plain loops of their definitions, and results by hand where they differ."""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, precision_recall_fscore_support

import wsd_distill.evaluation.protocols as protocols
from wsd_distill.evaluation import MultiLabelEvaluator
from wsd_distill.evaluation.protocols import METRIC_NAMES, PROTOCOLS
from wsd_distill.evaluation.scores import Scores, read_scores

FIXED = [name for name, protocol in PROTOCOLS.items() if protocol.threshold is not None]


def found(scores, labels):
    scores, labels = np.array(scores, np.float32), np.array(labels, np.int8)
    return Scores(scores, labels, [f"class {k}" for k in range(scores.shape[1])])


def random_case(seed, images=60, classes=7):
    """Random scores with ties, labels of -1, a class without positives and one that is never predicted."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((images, classes)) < 0.3).astype(np.int8)
    scores = np.round(0.4 * labels + 0.6 * rng.random((images, classes)), 2)
    labels[rng.random(labels.shape) < 0.1] = -1
    labels[labels[:, 2] == 1, 2] = 0
    scores[:, 4] *= 0.4
    return found(scores, labels)


def evaluate(name, case):
    return PROTOCOLS[name].evaluate(case, case)


# Loops, from the definitions in docs/protocols.md.


def ranked(scores, labels):
    """Labels sorted by falling score, ties in the order of the rows, without ignored labels (-1)."""
    pairs = [(-score, row, label) for row, (score, label) in enumerate(zip(scores, labels)) if label >= 0]
    return [label for _, _, label in sorted(pairs)]


def ap_at_positives(scores, labels):
    right, total = 0, 0.0
    for rank, label in enumerate(ranked(scores, labels), start=1):
        if label:
            right += 1
            total += right / rank
    return total / right if right else None


def ap_voc_2010(scores, labels):
    order = ranked(scores, labels)
    if not sum(order):
        return None
    curve = [(sum(order[:n]) / sum(order), sum(order[:n]) / n) for n in range(1, len(order) + 1)]
    area, last = 0.0, 0.0
    for recall in sorted({recall for recall, _ in curve if recall}):
        area += (recall - last) * max(precision for other, precision in curve if other >= recall)
        last = recall
    return area


def ap_of_distinct_scores(scores, labels):
    """Equal scores share one rank: the precision at it counts for each of its positives."""
    pairs = [(score, label) for score, label in zip(scores.tolist(), labels.tolist()) if label != -1]
    total, positives = 0.0, sum(label for _, label in pairs)
    for rank in {score for score, _ in pairs}:
        above = [label for score, label in pairs if score >= rank]
        total += sum(label for score, label in pairs if score == rank) * sum(above) / len(above)
    return total / positives if positives else None


def f1_loops(predicted, labels, of_means, zero, ignored_is_wrong):
    """{metric: fraction} with 0/0 = zero."""

    def divide(a, b):
        return a / b if b else zero

    counts = []
    for column, truth in zip(predicted.T.tolist(), labels.T.tolist()):
        pairs = [(p, t == 1) for p, t in zip(column, truth) if t != -1 or ignored_is_wrong]
        counts.append((sum(p and t for p, t in pairs), sum(p for p, _ in pairs), sum(t for _, t in pairs)))
    hits, predictions, positives = (sum(column) for column in zip(*counts))
    k = len(counts)
    cp, cr = (sum(divide(row[0], row[i]) for row in counts) / k for i in (1, 2))
    f1 = 2 * cp * cr / (cp + cr) if of_means else sum(divide(2 * h, p + t) for h, p, t in counts) / k
    overall = divide(hits, predictions), divide(hits, positives), divide(2 * hits, predictions + positives)
    return dict(zip(("CP", "CR", "CF1", "OP", "OR", "OF1"), (cp, cr, f1, *overall)))


def three_best(scores):
    best = np.zeros(scores.shape, bool)
    for row, image in zip(best, scores.tolist()):
        for _, k in sorted((-score, k) for k, score in enumerate(image))[:3]:
            row[k] = True
    return best


# AP; what an empty class counts; predictions of (scores, threshold); F1 of means; 0/0; -1 is wrong; modes.
DEFINITIONS = {
    "paper": (ap_of_distinct_scores, None, np.greater_equal, None, False, 0, False, ("", "-top3")),
    "srn": (ap_voc_2010, None, np.greater, 0.5, False, 1, True, ("", "-top3", "-top3-above")),
    "ml-gcn": (ap_at_positives, None, np.greater_equal, 0.5, True, 0, True, ("", "-top3-above")),
    "asl": (ap_at_positives, 0, np.greater, 0.8, False, 0, False, ("",)),
    "ml-decoder": (ap_at_positives, 0, np.greater, 0.75, False, 0, False, ("",)),
    "sklearn": (ap_of_distinct_scores, 0, np.greater, 0.5, False, 0, False, ("",)),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_metric_equals_plain_loops(name, seed):
    case = random_case(seed)
    results = evaluate(name, case)
    ap, empty, compare, threshold, of_means, zero, ignored_is_wrong, modes = DEFINITIONS[name]
    precisions = [ap(s, y) for s, y in zip(case.scores.T, case.labels.T)]
    valid = [empty if p is None else p for p in precisions if p is not None or empty is not None]
    expected = {"mAP": 100 * sum(valid) / len(valid), "threshold": threshold or results["threshold"]}
    above = compare(case.scores, np.float32(expected["threshold"]))
    best = three_best(case.scores)
    for mode in modes:
        predicted = {"": above, "-top3": best, "-top3-above": best & above}[mode]
        metrics = f1_loops(predicted, case.labels, of_means, zero, ignored_is_wrong)
        expected.update({f"{metric}{mode}": 100 * value for metric, value in metrics.items()})
    assert results == pytest.approx(expected, abs=1e-9)
    assert [metric for metric in METRIC_NAMES if metric in results] == [f for f in results if f != "threshold"]


def test_sklearn_equals_scikit_learn():
    case = random_case(5)
    case.labels[case.labels == -1] = 0  # scikit-learn has no ignored labels
    results = evaluate("sklearn", case)
    with pytest.warns(UserWarning, match="No positive class found"):
        assert results["mAP"] == pytest.approx(100 * average_precision_score(case.labels, case.scores, average="macro"))
    for average, keys in (("macro", ("CP", "CR", "CF1")), ("micro", ("OP", "OR", "OF1"))):
        expected = precision_recall_fscore_support(case.labels, case.scores > 0.5, average=average, zero_division=0)
        assert [results[key] for key in keys] == pytest.approx([100 * value for value in expected[:3]])


def test_srn_equals_scikit_learn_with_zero_division_1():
    case = random_case(6)
    case.labels[case.labels == -1] = 0
    results = evaluate("srn", case)
    for average, keys in (("macro", ("CP", "CR", "CF1")), ("micro", ("OP", "OR", "OF1"))):
        expected = precision_recall_fscore_support(case.labels, case.scores > 0.5, average=average, zero_division=1)
        assert [results[key] for key in keys] == pytest.approx([100 * value for value in expected[:3]])


def maps(scores, labels):
    return {name: pytest.approx(evaluate(name, found(scores, labels))["mAP"]) for name in PROTOCOLS}


def test_average_precisions_by_hand():
    # Positives at ranks 2, 4 and 5: precision 1/2, 1/2 and 3/5. Interpolated, each is the best from there on, 3/5.
    plain = 100 * (1 / 2 + 1 / 2 + 3 / 5) / 3
    expected = {name: plain for name in PROTOCOLS}
    assert maps([[0.9], [0.8], [0.7], [0.6], [0.5]], [[0], [1], [0], [1], [1]]) == {**expected, "srn": 60}


def test_equal_scores_share_one_rank_or_keep_the_order_of_the_rows():
    one_rank, in_order = ("paper", "sklearn"), ("srn", "ml-gcn", "asl", "ml-decoder")
    first = {**dict.fromkeys(one_rank, 50), **dict.fromkeys(in_order, 100)}
    assert maps([[0.6], [0.6]], [[1], [0]]) == first
    assert maps([[0.6], [0.6]], [[0], [1]]) == dict.fromkeys(PROTOCOLS, 50)


def test_a_class_without_a_positive():
    scores, labels = [[0.9, 0.1], [0.2, 0.2]], [[1, 0], [0, 0]]
    left_out, zero = ("paper", "srn", "ml-gcn"), ("asl", "ml-decoder", "sklearn")
    assert maps(scores, labels) == {**dict.fromkeys(left_out, 100), **dict.fromkeys(zero, 50)}
    # It is not predicted either, except in the top 3 of two classes: 0/0 is 1 for SRN, 0 for the others.
    for name in FIXED:
        results = evaluate(name, found(scores, labels))
        expected = 100 if name == "srn" else 50
        assert [results[key] for key in ("CP", "CR", "CF1")] == pytest.approx([expected] * 3), name
        assert results["OF1"] == 100


def test_a_class_that_is_never_predicted_has_precision_1_for_srn():
    case = found([[0.9, 0.1], [0.2, 0.2]], [[1, 1], [0, 0]])
    assert {name: evaluate(name, case)["CP"] for name in FIXED} == {**dict.fromkeys(FIXED, 50), "srn": 100}
    assert {name: evaluate(name, case)["CF1"] for name in FIXED} == {**dict.fromkeys(FIXED, 50), "ml-gcn": 50}


def test_predicting_an_ignored_label_is_wrong_for_srn_and_ml_gcn_but_not_in_their_map():
    case = found([[0.9], [0.85], [0.1]], [[-1], [1], [0]])
    wrong = ("srn", "ml-gcn")
    assert {name: evaluate(name, case)["mAP"] for name in PROTOCOLS} == dict.fromkeys(PROTOCOLS, 100)
    expected = {**dict.fromkeys(FIXED, 100), **dict.fromkeys(wrong, 50)}
    assert {name: evaluate(name, case)["OP"] for name in FIXED} == expected
    assert evaluate("ml-gcn", case)["OP-top3-above"] == 50


def test_fewer_than_three_classes_above_the_threshold():
    case = found([[0.9, 0.6, 0.4, 0.1, 0.3]], [[1, 0, 1, 0, 0]])
    # The three best are 2 right of 3; of these, two are above 0.5, 1 right of 2.
    for name, expected in {"paper": [200 / 3, None], "srn": [200 / 3, 50], "ml-gcn": [None, 50]}.items():
        results = evaluate(name, case)
        assert [results.get("OP-top3"), results.get("OP-top3-above")] == pytest.approx(expected), name
    for name in ("asl", "ml-decoder", "sklearn"):
        assert not any("top3" in key for key in evaluate(name, case))


def test_more_than_three_classes_above_the_threshold():
    case = found([[0.9, 0.8, 0.7, 0.6]], [[1, 1, 1, 1]])
    results = evaluate("ml-gcn", case)
    assert (results["OR"], results["OR-top3-above"]) == (100, 75)


def test_a_score_equal_to_the_threshold_is_predicted_by_ml_gcn_only():
    case = found([[0.5, 0.8, 0.75]], [[1, 1, 1]])
    recall = {name: round(evaluate(name, case)["OR"], 1) for name in FIXED}
    assert recall == {"srn": 66.7, "ml-gcn": 100, "asl": 0, "ml-decoder": 33.3, "sklearn": 66.7}


def test_the_two_cf1_at_one_threshold():
    case = found([[0.9, 0.9], [0.1, 0.9], [0.1, 0.1]], [[1, 1], [1, 0], [0, 0]])
    # Precisions 1 and 1/2, recalls 1/2 and 1: F1 2/3 each, but the means are 3/4 and 3/4.
    assert evaluate("ml-gcn", case)["CF1"] == pytest.approx(75)
    assert evaluate("sklearn", case)["CF1"] == pytest.approx(200 / 3)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_predictions_do_not_depend_on_labels(name, monkeypatch):
    case, tuning = random_case(8), random_case(9)
    predicted = []

    def record(predictions, labels, **options):
        predicted.append(predictions)
        return f1_scores(predictions, labels, **options)

    f1_scores = protocols.f1_scores
    monkeypatch.setattr(protocols, "f1_scores", record)
    rng = np.random.default_rng(0)
    others = [case.labels, np.ones_like(case.labels), rng.integers(-1, 2, case.labels.shape)]
    for labels in others:  # with other numbers of positives per image
        PROTOCOLS[name].evaluate(case._replace(labels=labels), tuning)
    modes = len(PROTOCOLS[name].top_3) + 1
    assert len(predicted) == 3 * modes and predicted[0].any()
    for i, predictions in enumerate(predicted):
        np.testing.assert_array_equal(predictions, predicted[i % modes])


def test_threshold_of_the_paper_is_tuned_on_the_other_split():
    case, tuning = found([[0.6], [0.3]], [[1], [0]]), found([[0.9], [0.7]], [[1], [0]])
    results = PROTOCOLS["paper"].evaluate(case, tuning)
    assert results["threshold"] == pytest.approx(0.8) and results["OR"] == 0
    assert evaluate("paper", case)["OR"] == 100


def test_paper_equals_the_evaluator(register, tmp_path):
    records = [{"image_id": i, "labels": labels, "ignore_labels": [3]} for i, labels in enumerate(([0, 2], [1], [0]))]
    evaluator = MultiLabelEvaluator(register(records, list("abcd")), output_dir=str(tmp_path), distributed=False)
    scores = torch.rand(3, 4, generator=torch.Generator().manual_seed(0))
    evaluator.process(records, [{"image_scores": row} for row in scores])
    reported = evaluator.evaluate()["multilabel"]
    results = evaluate("paper", read_scores(tmp_path / "scores.npz"))
    assert results == pytest.approx({key: reported[key] for key in results}, abs=1e-9)
