import pytest
import torch
from detectron2.evaluation import inference_on_dataset
from detectron2.structures import Boxes, BoxMode, Instances

from wsd_distill.evaluation import MultiLabelEvaluator, build_evaluator
from wsd_distill.evaluation.scores import read_scores

BOX = [0, 0, 10, 10]


@pytest.fixture
def dataset(register):
    """One image with one cat."""
    annotation = {"category_id": 0, "bbox": BOX, "bbox_mode": BoxMode.XYXY_ABS}
    record = {"image_id": 1, "height": 50, "width": 50, "labels": [0], "annotations": [annotation]}
    return register([record], ["cat", "dog"])


def model(inputs):
    columns = {"pred_classes": torch.tensor([0]), "scores": torch.tensor([0.5])}
    found = Instances((50, 50), pred_boxes=Boxes(torch.tensor([BOX], dtype=torch.float32)), **columns)
    return [{"image_scores": torch.tensor([0.75, 0.25]), "instances": found} for _ in inputs]


@pytest.mark.parametrize("boxes", [False, True])
def test_metrics_and_files(dataset, tmp_path, boxes):
    evaluator = build_evaluator(dataset, output_dir=str(tmp_path), boxes=boxes)
    assert isinstance(evaluator, MultiLabelEvaluator) != boxes
    results = inference_on_dataset(model, [[{"image_id": 1}]], evaluator)
    assert results["multilabel"]["mAP"] == 100
    assert set(results) == ({"multilabel", "localization"} if boxes else {"multilabel"})
    assert {path.name for path in tmp_path.iterdir()} == {"scores.npz", *(["detections.npz"] if boxes else [])}
    if boxes:
        assert results["localization"]["CorLoc"] == results["localization"]["AP50"] == 100


def test_threshold_of_another_split(dataset, tmp_path):
    options = {"threshold_split": "val", "threshold": 0.25, "weights_digest": "abc"}
    evaluator = build_evaluator(dataset, output_dir=str(tmp_path), boxes=True, **options)
    results = inference_on_dataset(model, [[{"image_id": 1}]], evaluator)
    assert results["multilabel"]["threshold"] == 0.25
    assert read_scores(tmp_path / "scores.npz").weights_digest == "abc"


@pytest.mark.parametrize("options", [{"threshold_split": "val"}, {"threshold": 0.25}])
def test_a_threshold_without_its_split(dataset, options):
    with pytest.raises(ValueError, match="threshold_split is .* and threshold is .*: set both or none"):
        build_evaluator(dataset, **options)
