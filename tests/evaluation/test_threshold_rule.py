"""One rule everywhere: a label counts from its threshold on."""

import numpy as np
import pytest
import torch
from helpers.model_folder import CLASSES, write_model_folder

from wsd_distill import Tagger
from wsd_distill.evaluation import MultiLabelEvaluator
from wsd_distill.evaluation.decisions import calibrate, choose_thresholds, metric_intervals
from wsd_distill.evaluation.metrics import f1_scores
from wsd_distill.evaluation.protocols import PROTOCOLS
from wsd_distill.evaluation.scores import Scores, read_scores


@pytest.fixture
def tagger(tmp_path, monkeypatch):
    """A tagger whose logits are the first values of its pixels."""
    found = Tagger.load(write_model_folder(tmp_path / "model"), "onnx")
    monkeypatch.setattr(found, "logits", lambda logits: logits)
    return found


def f1_of_tagger(tagger, logits, labels):
    """CF1 and OF1, in percent, of what the tagger selects."""
    names = [tagger.select(row) for row in tagger.probabilities(logits)]
    predicted = np.array([[name in found for name in CLASSES] for found in names])
    found = f1_scores(predicted, labels)
    return [100 * found[name] for name in ("CF1", "OF1")]


def draw(seed):
    """Logits (60, 3) with many ties, and labels."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((60, 3)) < 0.4).astype(np.int8)
    logits = np.round(2 * labels + rng.normal(-1.5, 1.5, labels.shape), 1 if seed % 2 else 0)
    return logits.astype(np.float32), labels


@pytest.mark.parametrize("seed", range(20))
def test_f1_of_the_evaluation_is_that_of_the_tagger(seed, tagger, register, tmp_path):
    logits, labels = draw(seed)
    records = [{"image_id": i, "labels": np.flatnonzero(row).tolist()} for i, row in enumerate(labels)]
    evaluator = MultiLabelEvaluator(register(records, CLASSES), output_dir=str(tmp_path), distributed=False)
    evaluator.process(records, [{"image_scores": row} for row in torch.from_numpy(logits).sigmoid()])
    evaluated = evaluator.evaluate()["multilabel"]
    tagger.config.calibration.update(scale=1.0, offset=0.0)
    tagger.thresholds[:] = evaluated["threshold"]
    expected = f1_of_tagger(tagger, logits, labels)
    assert [evaluated[name] for name in ("CF1", "OF1")] == pytest.approx(expected)
    found = read_scores(tmp_path / "scores.npz")
    assert [PROTOCOLS["paper"].evaluate(found, found)[name] for name in ("CF1", "OF1")] == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(20))
def test_f1_of_calibrated_scores_is_that_of_the_tagger(seed, tagger):
    logits, labels = draw(seed)
    scores = calibrate(torch.from_numpy(logits).sigmoid().numpy(), 1.3, -0.4)
    tagger.config.calibration.update(scale=1.3, offset=-0.4)
    tagger.thresholds[:] = choose_thresholds(scores, labels).values
    found = metric_intervals(Scores(scores, labels, CLASSES), tagger.thresholds, num_draws=1)
    expected = f1_of_tagger(tagger, logits, labels)
    assert [found[name][0] for name in ("CF1", "OF1")] == pytest.approx(expected)


def test_a_score_equal_to_the_threshold_is_predicted(tagger, register):
    records = [{"image_id": 0, "labels": [0]}, {"image_id": 1, "labels": []}]
    scores = torch.tensor([[0.5, 0.25, 0.0], [0.25, 0.0, 0.0]])
    evaluator = MultiLabelEvaluator(register(records, CLASSES), threshold=0.25, distributed=False)
    evaluator.process(records, [{"image_scores": row} for row in scores])
    found = evaluator.evaluate()["multilabel"]
    assert (found["OP"], found["OR"]) == (pytest.approx(100 / 3), 100)  # one of three is right
    assert (found["OP@0.5"], found["OR@0.5"]) == (100, 100)
    tagger.thresholds[:] = 0.25
    assert [list(tagger.select(row)) for row in scores.numpy()] == [["cat", "dog"], ["cat"]]
