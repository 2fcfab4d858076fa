import wsd_distill  # noqa: F401  (first: it patches Detectron2 0.6 for a current PyTorch)

# isort: split
import json
import zipfile

import numpy as np
import pytest
import torch
from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from detectron2.structures import Boxes, Instances
from helpers.proposal_files import BOXES, RECORDS, content, rows
from pycocotools.coco import COCO

from wsd_distill.proposals.formats.coco_results import read_json, read_predictions, write_json, write_predictions


def test_json_round_trip_and_pycocotools_can_read_it(tmp_path):
    path = str(tmp_path / "p.json")
    write_json(path, rows())
    assert content(read_json(path)) == BOXES
    truth = COCO()
    truth.dataset = {"images": [{"id": record["image_id"]} for record in RECORDS], "categories": [], "annotations": []}
    truth.createIndex()
    loaded = truth.loadRes(path)
    found = loaded.loadAnns(loaded.getAnnIds(imgIds=[10]))
    assert [each["bbox"] for each in found] == [[0, 0, 40, 30], [1.5, 2.5, 1.75, 1.5]]
    assert [each["score"] for each in found] == [0.75, 0.25]
    assert len(loaded.anns) == 6


def test_byte_order_mark_is_accepted(tmp_path):
    (tmp_path / "p.json").write_text(json.dumps([RESULT]), encoding="utf-8-sig")
    assert [part.tolist() for part in read_json(str(tmp_path / "p.json"))["1"]] == [[[0, 0, 1, 1]], [0.5]]


def test_predictions_round_trip(tmp_path):
    path = str(tmp_path / "p.pth")
    write_predictions(path, rows())
    assert content(read_predictions(path)) == BOXES


def test_files_of_coco_evaluator_can_be_read(tmp_path):
    instances = Instances((30, 40), pred_boxes=Boxes([[1.0, 2, 4, 8], [0, 0, 2, 2]]), scores=torch.tensor([0.5, 0.75]))
    instances.pred_classes = torch.tensor([3, 5])
    predictions = [
        {"image_id": 10, "instances": instances_to_coco_json(instances, 10)},
        {"image_id": 9, "instances": []},
    ]
    torch.save(predictions, tmp_path / "instances_predictions.pth")
    source = read_predictions(str(tmp_path / "instances_predictions.pth"))
    boxes, scores = source["10"]
    assert source.to_xyxy(boxes).tolist() == [[1, 2, 4, 8], [0, 0, 2, 2]] and scores.tolist() == [0.5, 0.75]
    assert [part.shape for part in source["9"]] == [(0, 4), (0,)]


RESULT = {"image_id": 1, "category_id": 3, "bbox": [0, 0, 1, 1], "score": 0.5}


@pytest.mark.parametrize(
    "value, message",
    [
        ({"annotations": []}, r"p\.json contains a dict, expected a list"),
        ([[1]], r"p\.json: \[1\] has no 'image_id'"),
        ([{key: value for key, value in RESULT.items() if key != "score"}], r"p\.json: .* has no 'score'"),
        (
            [{**RESULT, "bbox": [0, 0, 1]}],
            r"p\.json: a result of image '1' has the bbox \[0, 0, 1\], expected four numbers",
        ),
        ([{**RESULT, "bbox": [0, 0, 1]}] * 4, r"p\.json: a result of image '1' has the bbox"),
        ([{**RESULT, "score": "a"}], r"p\.json: a result of image '1' has the score 'a', expected a number"),
        ([{**RESULT, "image_id": "1"}, RESULT], r"p\.json: image '1' is listed twice"),
    ],
)
def test_invalid_json_raises(tmp_path, value, message):
    (tmp_path / "p.json").write_text(json.dumps(value))
    with pytest.raises(ValueError, match=message):
        read_json(str(tmp_path / "p.json"))["1"]


def test_invalid_files_raise(tmp_path):
    (tmp_path / "p.json").write_text("[{")
    with pytest.raises(ValueError, match=r"p\.json is truncated or not JSON"):
        read_json(str(tmp_path / "p.json"))
    torch.save([{"image_id": 1, "proposals": Instances((1, 1))}], tmp_path / "p.pth")
    with pytest.raises(ValueError, match=r"p\.pth is truncated or not a file of PyTorch tensors and plain values"):
        read_predictions(str(tmp_path / "p.pth"))
    torch.save([{"image_id": 1}], tmp_path / "p.pth")
    with pytest.raises(ValueError, match=r"p\.pth: .* has no 'instances'"):
        read_predictions(str(tmp_path / "p.pth"))
    (tmp_path / "p.pth").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"p\.pth is truncated or not a file of .* \(UnpicklingError\)"):
        read_predictions(str(tmp_path / "p.pth"))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"image_id": None}, "None is not the name of an image"),
        ({"image_id": [1]}, r"\[1\] is not the name of an image"),
        ({"bbox": [10**400, 0, 1, 1]}, "has the bbox .*, expected four numbers"),
        ({"score": "high"}, "has the score 'high', expected a number"),
    ],
)
def test_unexpected_values_raise(tmp_path, change, message):
    (tmp_path / "p.json").write_text(json.dumps([{**RESULT, **change}]))
    with pytest.raises(ValueError, match=rf"p\.json: .*{message}"):
        dict(read_json(str(tmp_path / "p.json")))


def test_compressed_predictions_raise_before_they_fill_the_memory(tmp_path):
    with zipfile.ZipFile(tmp_path / "p.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * 3_000_000)
    with pytest.raises(ValueError, match=r"p\.pth is compressed, unlike files of torch\.save"):
        read_predictions(str(tmp_path / "p.pth"))


def test_damaged_predictions_are_read_or_named(tmp_path):
    rng, path = np.random.default_rng(0), tmp_path / "p.pth"
    write_predictions(str(path), rows())
    whole = path.read_bytes()
    for _ in range(100):
        damaged, position = bytearray(whole), int(rng.integers(len(whole)))
        damaged[position : position + 4] = rng.bytes(4)
        path.write_bytes(damaged)
        try:
            dict(read_predictions(str(path)))
        except ValueError as error:
            assert str(path) in str(error)
