import logging

import numpy as np
import pytest
import torch
from detectron2.evaluation import DatasetEvaluators, inference_on_dataset, print_csv_format
from detectron2.utils import comm

from wsd_distill.evaluation import MultiLabelEvaluator

CLASSES = ["cat", "dog", "pot-plant", "bus"]
RECORDS = [{"image_id": "a", "labels": [0, 1]}, {"image_id": "b", "labels": [0]}]
SCORES = {"a": [0.9, 0.6, 0.4, 0.1], "b": [0.8, 0.7, 0.2, 0.3]}
# AP: cat 1, dog 1/2. 0.5, which is also halfway between 0.6 and 0.4, and top-3 predict cat and dog in both images:
# cat's F1 is 1, dog's 2/3.
AT_THRESHOLD = {
    "CF1": 100 * (1 + 2 / 3) / 4,
    "CF1-of-means": 100 * 2 * 0.375 * 0.5 / (0.375 + 0.5),
    "OF1": 100 * 6 / 7,
    "CP": 37.5,
    "CR": 50,
    "OP": 75,
    "OR": 100,
}
# Top-3 adds one wrong class to each image: a third and a fourth class of precision 0.
AT_TOP3 = {**AT_THRESHOLD, "OP": 50, "OF1": 100 * 6 / 9}


def run(evaluator, scores, order=None):
    for image_id in order or scores:
        evaluator.process([{"image_id": image_id}], [{"image_scores": torch.tensor(scores[image_id])}])
    return evaluator.evaluate()


def one_class(register, scores, labels):
    """Register a dataset of one class; return its name and the scores by image."""
    records = [{"image_id": i, "labels": [0] if label else []} for i, label in enumerate(labels)]
    return register(records, ["cat"]), {i: [score] for i, score in enumerate(scores)}


def test_numbers_by_hand(register):
    results = run(MultiLabelEvaluator(register(RECORDS, CLASSES)), SCORES)["multilabel"]
    expected = {"mAP": 75, **AT_THRESHOLD, "threshold": 0.5}
    expected.update({f"{key}@0.5": value for key, value in AT_THRESHOLD.items()})
    expected.update({f"{key}-top3": value for key, value in AT_TOP3.items()})
    # Every image has cat, half of them dog. The scores that vary most are 0.4 and 0.2, 0.1 and 0.3.
    expected.update({"mAP-chance": 75, "mAP-with-negatives": 50, "score-std": 0.1})
    expected.update({"AP-cat": 100, "AP-dog": 50, "AP-pot-plant": np.nan, "AP-bus": np.nan})
    assert results == pytest.approx(expected, nan_ok=True)


def test_ignored_labels(register, tmp_path):
    """In image c, cat is ignored, with the highest score of all images; dog is positive."""
    records = [*RECORDS, {"image_id": "c", "labels": [1], "ignore_labels": [0]}]
    scores = {**SCORES, "c": [0.95, 0.9, 0.1, 0.2]}
    evaluator = MultiLabelEvaluator(register(records, CLASSES), output_dir=str(tmp_path))
    results = run(evaluator, scores)["multilabel"]
    # dog: right, wrong, right. Above 0.5: cat in a, b (both right), dog in c, b, a (two of three right).
    assert results["AP-cat"] == 100
    assert results["AP-dog"] == pytest.approx(100 * (1 + 2 / 3) / 2)
    assert results["CF1@0.5"] == pytest.approx(100 * (1 + 2 * 2 / (3 + 2)) / 4)
    assert results["OF1@0.5"] == pytest.approx(100 * 2 * 4 / (5 + 4))
    # Of the 9 classes in the top-3 of the three images, that one cat does not count.
    assert results["OP-top3"] == pytest.approx(100 * 4 / 8)
    with np.load(tmp_path / "scores.npz") as file:
        assert file["labels"].tolist() == [[1, 1, 0, 0], [1, 0, 0, 0], [-1, 1, 0, 0]]


def test_reports_through_detectron2(register, caplog):
    name = register(RECORDS, CLASSES)
    loader = [[{"image_id": "a"}, {"image_id": "b"}]]

    def model(inputs):
        return [{"image_scores": torch.tensor(SCORES[record["image_id"]])} for record in inputs]

    caplog.set_level(logging.INFO)
    results = inference_on_dataset(model, loader, DatasetEvaluators([MultiLabelEvaluator(name)]))
    print_csv_format(results)
    assert results["multilabel"]["mAP"] == 75
    assert "copypaste: mAP,CF1,OF1,CP,CR,OP,OR,threshold,CF1@0.5,OF1@0.5" in caplog.text
    assert "copypaste: 75.0000,41.6667,85.7143,37.5000,50.0000,75.0000,100.0000,0.5000," in caplog.text
    assert f"Threshold tuned on {name} itself" in caplog.text
    assert "pot-plant" in caplog.text  # the table of every class


def test_order_and_repeated_images_do_not_matter(register):
    name = register(RECORDS, CLASSES)
    expected = run(MultiLabelEvaluator(name), SCORES)["multilabel"]
    repeated = run(MultiLabelEvaluator(name), SCORES, order="bababb")["multilabel"]
    assert repeated == pytest.approx(expected, rel=0, abs=0, nan_ok=True)


def test_the_first_prediction_of_an_image_is_used(register):
    evaluator = MultiLabelEvaluator(register(RECORDS, CLASSES))
    evaluator.process([{"image_id": "a"}], [{"image_scores": torch.tensor(SCORES["a"])}])
    results = run(evaluator, {"a": [0.0, 0.0, 0.9, 0.9], "b": SCORES["b"]})
    assert results["multilabel"]["CF1@0.5"] == pytest.approx(AT_THRESHOLD["CF1"])


def test_reset_clears_predictions(register):
    evaluator = MultiLabelEvaluator(register(RECORDS, CLASSES))
    run(evaluator, {image_id: [0.0, 0.0, 0.9, 0.9] for image_id in SCORES})
    evaluator.reset()
    assert run(evaluator, SCORES)["multilabel"]["CF1@0.5"] == pytest.approx(AT_THRESHOLD["CF1"])


def test_scores_file(register, tmp_path):
    run(MultiLabelEvaluator(register(RECORDS, CLASSES), output_dir=str(tmp_path / "test")), SCORES, order="ba")
    assert [path.name for path in (tmp_path / "test").iterdir()] == ["scores.npz"]
    with np.load(tmp_path / "test" / "scores.npz") as file:
        assert file["image_ids"].tolist() == ["a", "b"]
        assert file["class_names"].tolist() == CLASSES
        np.testing.assert_array_equal(file["scores"], np.array([SCORES["a"], SCORES["b"]], dtype=np.float32))
        np.testing.assert_array_equal(file["labels"], np.array([[1, 1, 0, 0], [1, 0, 0, 0]], dtype=np.int8))
        assert (file["scores"].dtype, file["labels"].dtype) == (np.float32, np.int8)


def test_threshold_of_another_split(register, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    test, test_scores = one_class(register, [0.2, 0.1], [1, 0])
    own = run(MultiLabelEvaluator(test), test_scores)["multilabel"]
    evaluator = MultiLabelEvaluator(test, threshold=0.25, threshold_source="val", output_dir=str(tmp_path))
    tuned_on_val = run(evaluator, test_scores)["multilabel"]
    assert (own["threshold"], own["CF1"]) == (pytest.approx(0.15), 100)
    assert (tuned_on_val["threshold"], tuned_on_val["CF1"]) == (0.25, 0)
    assert own["mAP"] == tuned_on_val["mAP"] == 100
    assert "Threshold 0.2500 tuned on val." in caplog.text


def test_classes_that_cannot_be_measured_are_named(register, caplog):
    caplog.set_level(logging.INFO)
    run(MultiLabelEvaluator(register(RECORDS, CLASSES)), SCORES)
    assert "mAP 75.00 (chance 75.00; without the classes that every image has 50.00)" in caplog.text
    assert "every image has cat: AP is 100 whatever is predicted" in caplog.text
    assert "no image has pot-plant, bus: AP is undefined" in caplog.text
    assert "fewer than 5 images have cat, dog" in caplog.text
    assert "HARDLY" not in caplog.text


def test_scores_that_hardly_vary_are_named(register, caplog):
    results = run(MultiLabelEvaluator(register(RECORDS, CLASSES)), {"a": [0.2] * 4, "b": [0.2001] * 4})["multilabel"]
    assert results["score-std"] == pytest.approx(5e-5, rel=1e-3)
    assert "THE SCORES HARDLY DEPEND ON THE IMAGE" in caplog.text


def test_fewer_images_than_ranks(register, monkeypatch):
    name, scores = one_class(register, [0.2], [1])
    monkeypatch.setattr(comm, "gather", lambda predictions: [{}, predictions, {}])
    assert run(MultiLabelEvaluator(name), scores)["multilabel"]["mAP"] == 100
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    assert run(MultiLabelEvaluator(name), scores) is None
    assert run(MultiLabelEvaluator(name, distributed=False), scores)["multilabel"]["mAP"] == 100


def test_an_image_processed_by_two_ranks_is_used_once(register, monkeypatch):
    name, scores = one_class(register, [0.9, 0.1], [1, 0])
    padded = {1: np.array([1.0], dtype=np.float32)}  # image 1 on the second rank, with another score
    monkeypatch.setattr(comm, "gather", lambda predictions: [predictions, padded])
    assert run(MultiLabelEvaluator(name), scores)["multilabel"]["mAP"] == 100


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ({"a": SCORES["a"]}, "1 of the 2 images .* no prediction, first image 'b'"),
        ({**SCORES, "c": SCORES["a"]}, "'c' is not in dataset"),
        ({**SCORES, "b": [0.1, float("nan"), 0.1, 0.1]}, "NaN .*'b'"),
        ({**SCORES, "b": [0.1, 3.5, 0.1, 0.1]}, "'b': .* not logits"),
        ({**SCORES, "b": [0.1, 0.2]}, r"'b' has shape \(2,\), but there are 4 classes"),
    ],
)
def test_bad_predictions(register, scores, message):
    with pytest.raises(ValueError, match=message):
        run(MultiLabelEvaluator(register(RECORDS, CLASSES)), scores)


def test_output_without_scores(register):
    evaluator = MultiLabelEvaluator(register(RECORDS, CLASSES))
    with pytest.raises(ValueError, match="image 'a' has no 'image_scores'"):
        evaluator.process([{"image_id": "a"}], [{"instances": None}])


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([{"image_id": "a"}], "'a' .* has no 'labels'"),
        ([{"image_id": "a", "labels": [4]}], r"'a' .* has labels \[4\], but there are 4 classes"),
        ([{"image_id": "a", "labels": [-1]}], r"'a' .* has labels \[-1\]"),
        ([{"image_id": "a", "labels": [0], "ignore_labels": [4]}], r"'a' .* has labels \[0, 4\]"),
        (RECORDS + RECORDS, "two images with the same image_id"),
    ],
)
def test_bad_datasets(register, records, message):
    with pytest.raises(ValueError, match=message):
        MultiLabelEvaluator(register(records, CLASSES))
