import logging

import numpy as np
import pytest
import torch
from detectron2.evaluation import DatasetEvaluators, inference_on_dataset, print_csv_format
from detectron2.structures import Boxes, BoxMode, Instances
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torchvision.ops import box_iou

from wsd_distill.evaluation import LocalizationEvaluator, MultiLabelEvaluator, box_ap
from wsd_distill.evaluation.detections import Detections, GroundTruth, ImageDetections
from wsd_distill.evaluation.localization import corloc

CAT, DOG = 0, 1
SQUARE = [0, 0, 10, 10]
FAR = [70, 70, 90, 90]


def record(image_id, *objects):
    """Make a dataset dict from (class, XYXY box) or (class, XYXY box, "iscrowd" or "difficult")."""
    annotations = [
        {"category_id": k, "bbox": box, "bbox_mode": BoxMode.XYXY_ABS, **dict.fromkeys(flags, 1)}
        for k, box, *flags in objects
    ]
    labels = sorted({k for k, *_ in objects})
    return {"image_id": image_id, "height": 100, "width": 120, "labels": labels, "annotations": annotations}


def instances(*found, size=(100, 120)):
    """Make Instances from (class, XYXY box, score)."""
    return Instances(
        size,
        pred_boxes=Boxes(torch.tensor([box for _, box, _ in found], dtype=torch.float32).reshape(-1, 4)),
        pred_classes=torch.tensor([k for k, _, _ in found], dtype=torch.int64),
        scores=torch.tensor([score for _, _, score in found], dtype=torch.float32),
    )


def run(evaluator, outputs):
    for image_id, found in outputs.items():
        evaluator.process([{"image_id": image_id}], [{"instances": found}])
    return evaluator.evaluate()["localization"]


def evaluate(register, records, outputs, **options):
    return run(LocalizationEvaluator(register(records, ["cat", "dog", "bus"]), **options), outputs)


def test_corloc_by_hand(register):
    records = [
        record("exactly half", (CAT, SQUARE)),
        record("second object", (CAT, SQUARE), (CAT, [40, 40, 60, 60])),
        record("right box is second", (CAT, SQUARE)),
        record("none found", (DOG, SQUARE)),
        record("crowd", (DOG, SQUARE), (CAT, FAR, "iscrowd")),
        record("difficult alone", (CAT, FAR, "difficult")),
    ]
    records[0]["annotations"][0].update(bbox=[0, 0, 10, 10], bbox_mode=BoxMode.XYWH_ABS)
    outputs = {
        "exactly half": instances((CAT, FAR, 0.1), (CAT, [0, 0, 10, 5], 0.3), (DOG, FAR, 0.9)),  # IoU 0.5
        "second object": instances((CAT, [40, 40, 60, 58], 0.2)),  # IoU 0.9
        "right box is second": instances((CAT, SQUARE, 0.2), (CAT, FAR, 0.3)),
        "none found": instances((CAT, SQUARE, 0.9)),
        "crowd": instances((DOG, SQUARE, 1e-7), (CAT, SQUARE, 0.5)),
        "difficult alone": instances((CAT, FAR, 0.5)),
    }
    results = evaluate(register, records, outputs)
    expected = {
        "CorLoc": 100 * (2 / 3 + 1 / 2) / 2,
        "CorLoc-cat": 200 / 3,
        "CorLoc-dog": 50,
        "CorLoc-bus": np.nan,
    }
    assert {key: results[key] for key in expected} == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("scale", [1, 1e-7])  # scores as small as WSDDN's must not be rounded into ties
def test_ap_by_hand(register, scale):
    records = [record(1, (CAT, SQUARE)), record(2, (CAT, SQUARE), (CAT, FAR))]
    outputs = {
        1: instances((CAT, FAR, 0.8 * scale), (CAT, SQUARE, 0.9 * scale)),
        2: instances((CAT, [0, 0, 10, 6.2], 0.7 * scale)),  # IoU 0.62
    }
    results = evaluate(register, records, outputs)
    # 3 objects. Right, wrong, right: of COCO's 101 recalls the 34 up to 0.33 have precision 1, the 33 up to
    # 0.66 have 2/3, the rest 0. From IoU 0.65 on (7 of the 10) the last box is wrong too.
    assert results["AP50"] == pytest.approx(100 * (34 + 33 * 2 / 3) / 101)
    assert results["AP"] == pytest.approx(100 * (3 * (34 + 33 * 2 / 3) + 7 * 34) / 10 / 101)


def test_ap_is_the_mean_over_classes_that_occur(register):
    outputs = {1: instances((CAT, SQUARE, 0.9), (DOG, FAR, 0.9), (2, FAR, 0.9))}
    results = evaluate(register, [record(1, (CAT, SQUARE), (DOG, SQUARE))], outputs)
    assert (results["AP"], results["AP50"]) == (pytest.approx(50), pytest.approx(50))


def test_a_box_on_a_crowd_is_ignored(register):
    crowd = record(1, (CAT, SQUARE), (CAT, FAR, "iscrowd"))
    outputs = {1: instances((CAT, FAR, 0.9), (CAT, FAR, 0.9), (CAT, SQUARE, 0.8))}
    assert evaluate(register, [crowd], outputs)["AP50"] == pytest.approx(100)
    assert evaluate(register, [record(1, (CAT, SQUARE))], outputs)["AP50"] == pytest.approx(100 / 3)


def test_a_box_on_a_difficult_object_is_ignored(register):
    """Any number of boxes, as in VOC. A box on a small part of it is an FP; on a crowd it would be ignored."""
    difficult = record(1, (CAT, SQUARE), (CAT, FAR, "difficult"))
    outputs = {1: instances((CAT, FAR, 0.9), (CAT, FAR, 0.9), (CAT, SQUARE, 0.8))}
    assert evaluate(register, [difficult], outputs)["AP50"] == pytest.approx(100)
    outputs = {1: instances((CAT, [70, 70, 75, 75], 0.9), (CAT, SQUARE, 0.8))}
    assert evaluate(register, [difficult], outputs)["AP50"] == pytest.approx(50)


def test_no_detections_are_zero(register):
    results = evaluate(register, [record(1, (CAT, SQUARE)), record(2)], {1: instances(), 2: instances()})
    assert (results["CorLoc"], results["AP"], results["AP50"]) == (0, 0, 0)


def test_corloc_of_random_boxes_by_brute_force():
    rng = np.random.default_rng(0)

    def boxes(count):
        corner = rng.integers(0, 3, (count, 2))
        return np.concatenate([corner, corner + rng.integers(4, 8, (count, 2))], axis=1).astype(np.float32)

    def table():
        images, scores = rng.integers(0, 30, 75), rng.permutation(75).astype(np.float32)
        order = np.lexsort((-scores, images))
        return Detections(images[order], boxes(75), scores[order])

    for _ in range(4):
        found = table()
        flags = rng.random((2, 20)) < 0.1
        truth = GroundTruth(np.sort(rng.integers(0, 30, 20)), boxes(20), np.zeros(20, int), *flags)
        assert corloc(found, truth) == pytest.approx(brute_force_corloc(found, truth))


def brute_force_corloc(found, truth):
    hits = []
    for image in range(30):
        objects = [t for t in zip(*truth) if t[0] == image and not (t[3] or t[4])]
        boxes = [f for f in zip(*found) if f[0] == image]
        if objects:
            top = max(boxes, key=lambda box: box[2])[1] if boxes else np.zeros(4, np.float32)
            hits.append(covers_half(top, [box for _, box, *_ in objects]))
    assert 0 < sum(hits) < len(hits)
    return sum(hits) / len(hits)


def covers_half(box, objects):
    overlaps = box_iou(
        torch.tensor(np.array([box]), dtype=torch.float), torch.tensor(np.array(objects), dtype=torch.float)
    )
    return bool((overlaps >= 0.5).any())


@pytest.mark.parametrize("chunk_size", [2, 1000])
def test_ap_of_the_100_best_boxes_per_class_equals_pycocotools(register, monkeypatch, chunk_size):
    """150 boxes per class and image, with ties; COCOeval and the brute force below use all of them."""
    monkeypatch.setattr(box_ap, "CHUNK_SIZE", chunk_size)
    rng = np.random.default_rng(1)

    def boxes(count):
        corner = rng.integers(0, 40, (count, 2))
        return np.concatenate([corner, corner + rng.integers(20, 50, (count, 2))], axis=1).tolist()

    records, outputs = [], {}
    for i in range(7):
        objects = [(k, box) for k in rng.integers(0, 2, 3 if i < 5 else 0).tolist() for box in boxes(1)]
        crowds = [(CAT, box, "iscrowd") for box in boxes(1 if i == 2 else 0)]
        records.append(record(i, *objects, *crowds))
        found = [(k, box) for k in (CAT, DOG, 2) for box in boxes(150)]
        scores = rng.integers(1, 60, len(found)) / 64
        outputs[i] = instances(*(found[j] + (scores[j],) for j in rng.permutation(len(found))))
    evaluator = LocalizationEvaluator(register(records, ["cat", "dog", "bus"]))
    results = run(evaluator, outputs)
    kept = evaluator._predictions[0]
    assert (len(kept.scores), kept.boxes.nbytes + kept.scores.nbytes) == (300, 300 * 20)
    expected = coco_eval(records, outputs)
    assert 0 < expected[0] < expected[1] < 60
    assert (results["AP"], results["AP50"]) == (pytest.approx(expected[0]), pytest.approx(expected[1]))
    for k, name in ((CAT, "cat"), (DOG, "dog")):
        assert results[f"CorLoc-{name}"] == pytest.approx(100 * top_box_hits(records, outputs, k))


def coco_eval(records, outputs):
    """AP and AP50 of pycocotools' summary."""
    annotations, found = [], []
    for i, each in enumerate(records):
        for a in each["annotations"]:
            box = BoxMode.convert(list(a["bbox"]), a["bbox_mode"], BoxMode.XYWH_ABS)
            crowd = {"iscrowd": a.get("iscrowd", 0), "area": box[2] * box[3], "id": len(annotations) + 1}
            annotations.append({"image_id": i, "category_id": a["category_id"], "bbox": box, **crowd})
        columns = (outputs[i].pred_boxes.tensor, outputs[i].pred_classes, outputs[i].scores)
        for box, k, score in zip(*(column.tolist() for column in columns)):
            box = BoxMode.convert(box, BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)
            found.append({"image_id": i, "category_id": k, "bbox": box, "score": score})
    coco = COCO()
    categories = [{"id": k} for k in range(3)]
    coco.dataset = {"images": [{"id": i} for i in range(7)], "categories": categories, "annotations": annotations}
    coco.createIndex()
    evaluation = COCOeval(coco, coco.loadRes(found), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return 100 * evaluation.stats[:2]


def top_box_hits(records, outputs, k):
    hits = []
    for i, each in enumerate(records):
        objects = [a["bbox"] for a in each["annotations"] if a["category_id"] == k and "iscrowd" not in a]
        found = outputs[i][outputs[i].pred_classes == k]
        if objects:
            top = found.pred_boxes.tensor[found.scores.argmax()].tolist()
            hits.append(covers_half(top, objects))
    return sum(hits) / len(hits)


def test_the_best_boxes_of_each_class_are_kept_in_compact_arrays():
    boxes = np.arange(12, dtype=np.float32).reshape(3, 4)
    found = ImageDetections.best(boxes, np.array([0.5, 0.25, 0.75], np.float32), np.array([2, 0, 2]), 4)
    assert found.boxes.tolist() == boxes[[1, 2, 0]].tolist() and found.scores.tolist() == [0.25, 0.75, 0.5]
    assert (found.starts.tolist(), found.classes.tolist()) == ([0, 1, 1, 3, 3], [0, 2, 2])
    assert [column.dtype.itemsize for column in (found.boxes, found.scores, found.starts, found.classes)] == [
        4,
        4,
        4,
        2,
    ]


def test_reports_with_the_other_evaluator_through_detectron2(register, caplog, capsys):
    name = register([record(1, (CAT, SQUARE))], ["cat", "dog"])

    def model(inputs):
        scores = torch.tensor([0.9, 0.1])
        return [{"image_scores": scores, "instances": instances((CAT, SQUARE, 0.9))} for _ in inputs]

    evaluators = DatasetEvaluators([MultiLabelEvaluator(name), LocalizationEvaluator(name)])
    caplog.set_level(logging.INFO)
    results = inference_on_dataset(model, [[{"image_id": 1}]], evaluators)
    print_csv_format(results)
    assert list(results) == ["multilabel", "localization"]
    assert "copypaste: CorLoc,AP,AP50" in caplog.text
    assert "copypaste: 100.0000,100.0000,100.0000" in caplog.text
    assert capsys.readouterr().out == ""


def test_detections_file(register, tmp_path):
    outputs = {"b": instances((DOG, FAR, 0.25)), "a": instances((CAT, SQUARE, 1e-8), (CAT, FAR, 0.5))}
    records = [record("a", (CAT, SQUARE)), record("b")]
    evaluate(register, records, outputs, output_dir=str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["detections.npz"]
    with np.load(tmp_path / "detections.npz") as file:
        assert file["image_ids"].tolist() == ["a", "b"]
        assert file["class_names"].tolist() == ["cat", "dog", "bus"]
        assert file["images"].tolist() == [0, 0, 1]
        assert file["boxes"].tolist() == [FAR, SQUARE, FAR]
        assert file["classes"].tolist() == [CAT, CAT, DOG]
        assert file["scores"].tolist() == [0.5, np.float32(1e-8), 0.25]


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([{"image_id": "a", "labels": [0]}], "'a' .* has no 'annotations'"),
        ([record("a", (3, SQUARE))], "'a' .* box of class 3, but there are 3 classes"),
    ],
)
def test_bad_datasets(register, records, message):
    with pytest.raises(ValueError, match=message):
        evaluate(register, records, {})


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({}, "1 of the 1 images .* no prediction, first image 'a'"),
        ({"b": instances()}, "'b' is not in dataset"),
        ({"a": instances(size=(50, 60))}, r"'a' are for .*\(50, 60\), but the image is \(100, 120\)"),
        ({"a": instances((CAT, SQUARE, float("nan")))}, "'a' have NaN"),
        ({"a": instances((3, SQUARE, 0.5))}, "'a' have .* unknown class"),
    ],
)
def test_bad_predictions(register, outputs, message):
    with pytest.raises(ValueError, match=message):
        evaluate(register, [record("a", (CAT, SQUARE))], outputs)


def test_output_without_instances(register):
    evaluator = LocalizationEvaluator(register([record("a", (CAT, SQUARE))], ["cat"]))
    with pytest.raises(ValueError, match="image 'a' has no 'instances'"):
        evaluator.process([{"image_id": "a"}], [{"image_scores": None}])


@pytest.mark.parametrize("objects", [[], [(CAT, SQUARE, "iscrowd"), (CAT, SQUARE, "difficult")], [(CAT, [9, 9, 1, 1])]])
def test_without_a_box_to_detect_all_metrics_are_undefined(register, caplog, objects):
    results = evaluate(register, [record("a", *objects)], {"a": instances((CAT, SQUARE, 0.5))})
    assert set(results) == {"CorLoc", "AP", "AP50", "CorLoc-cat", "CorLoc-dog", "CorLoc-bus"}
    assert np.isnan(list(results.values())).all()
    assert "no box that is not crowd or difficult: CorLoc and AP are undefined" in caplog.text


@pytest.mark.parametrize(
    "box", [[], None, ["1", 2, 3, 4], [0, 0, float("nan"), 5], [10, 10, 0, 0], [500, 500, 510, 510]]
)
def test_impossible_boxes_are_left_out_and_counted(register, caplog, box):
    found = {"a": instances((CAT, SQUARE, 0.5))}
    expected = evaluate(register, [record("a", (CAT, SQUARE))], found)
    results = evaluate(register, [record("a", (CAT, box), (CAT, SQUARE))], found)
    assert results == pytest.approx(expected, nan_ok=True) and results["AP50"] == 100
    assert "1 impossible boxes are left out; the first: Image 'a' of" in caplog.text
