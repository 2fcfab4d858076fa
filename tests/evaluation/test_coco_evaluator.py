"""T-WDet with Detectron2's COCOEvaluator."""

import pytest
import torch
from detectron2.evaluation import COCOEvaluator, DatasetEvaluators, inference_on_dataset
from detectron2.structures import Boxes, BoxMode, Instances
from helpers.builders import PIXELS
from torch import nn

from wsd_distill.evaluation import LocalizationEvaluator
from wsd_distill.modeling import WSDDN, SmallConvNet

SQUARE, FAR, NOWHERE = [0, 0, 10, 10], [70, 70, 90, 90], [30, 30, 50, 45]


class Scripted(nn.Module):
    """A box head that returns the logarithms of given probabilities, [M^c | M^d], one table per image."""

    output_size = 4

    def __init__(self, tables):
        super().__init__()
        self.tables = iter(tables)

    def forward(self, pooled):
        return torch.tensor(next(self.tables)).log()


def scripted_detector(tables):
    """T-WDet with two classes whose branches return the output of the head."""
    model = WSDDN(
        backbone=SmallConvNet(channels=[2], convs=[1], norm=""),
        in_feature="conv1",
        pooler_size=3,
        head=Scripted(tables),
        num_classes=2,
        **PIXELS,
    )
    model.cls_branch.weight.data = torch.eye(4)[:2]
    model.det_branch.weight.data = torch.eye(4)[2:]
    return model


def record(image_id, *objects):
    boxes = [{"category_id": k, "bbox": box, "bbox_mode": BoxMode.XYXY_ABS, "iscrowd": 0} for k, box in objects]
    return {"image_id": image_id, "file_name": "", "height": 100, "width": 120, "labels": [], "annotations": boxes}


def model_input(image_id, *boxes):
    """An input at half the original size."""
    instances = Instances((50, 60), proposal_boxes=Boxes(torch.tensor(boxes) / 2), scores=torch.ones(len(boxes)))
    image = torch.zeros(3, 50, 60, dtype=torch.uint8)
    return {"image_id": image_id, "image": image, "height": 100, "width": 120, "proposals": instances}


def both_evaluations(register, tmp_path, records, batches, tables):
    name = register(records, ["cat", "dog"])
    coco = COCOEvaluator(
        name, tasks=("bbox",), distributed=False, use_fast_impl=False, output_dir=str(tmp_path / "coco")
    )
    evaluators = DatasetEvaluators([coco, LocalizationEvaluator(name)])
    results = inference_on_dataset(scripted_detector(tables), batches, evaluators)
    return results["bbox"], results["localization"]


def test_ap_by_hand(register, tmp_path):
    """Cats by falling S: TP 0.45, FP 0.4, TP (IoU 0.62) 0.35, FP 0.05; 3 cats; no dog."""
    records = [record(1, (0, SQUARE)), record(2, (0, SQUARE), (0, FAR))]
    batches = [[model_input(1, SQUARE, FAR)], [model_input(2, [0, 0, 10, 6.2], NOWHERE)]]
    # P(cat | R), P(dog | R), and how the classes are spread over the proposals
    tables = [[[0.9, 0.1, 0.5, 0.5], [0.8, 0.2, 0.5, 0.5]], [[0.7, 0.3, 0.5, 0.5], [0.1, 0.9, 0.5, 0.5]]]
    coco, ours = both_evaluations(register, tmp_path, records, batches, tables)
    # Of COCO's 101 recalls the 34 up to 0.33 have precision 1, the 33 up to 0.66 have 2/3; from 0.65 on only the 34.
    ap50, strict = 100 * (34 + 33 * 2 / 3) / 101, 100 * 34 / 101
    assert coco["AP50"] == pytest.approx(ap50) and ours["AP50"] == pytest.approx(ap50)
    assert coco["AP75"] == pytest.approx(strict)
    assert coco["AP"] == pytest.approx((3 * ap50 + 7 * strict) / 10)
    assert ours["AP"] == pytest.approx(coco["AP"])


def test_both_evaluators_are_equal_on_random_scenes(register, tmp_path):
    """20 images with 12 proposals near 3 objects each; every detection goes to both evaluators."""
    generator = torch.Generator().manual_seed(1)
    records, batches, tables = [], [], []
    for image_id in range(20):
        corner = torch.randint(0, 60, (3, 2), generator=generator)
        objects = torch.cat([corner, corner + torch.randint(15, 40, (3, 2), generator=generator)], dim=1)
        moved = objects.repeat(4, 1) + torch.randint(-4, 5, (12, 4), generator=generator)
        classes = torch.randint(0, 2, (3,), generator=generator)
        records.append(record(image_id, *zip(classes.tolist(), objects.tolist())))
        batches.append([model_input(image_id, *moved.clamp(0, 99).tolist())])
        draws = torch.rand(12, 4, generator=generator) + 0.01
        cls, det = draws[:, :2] / draws[:, :2].sum(1, keepdim=True), draws[:, 2:] / draws[:, 2:].sum(0)
        tables.append(torch.cat([cls, det], dim=1).tolist())
    coco, ours = both_evaluations(register, tmp_path, records, batches, tables)
    assert 10 < ours["AP"] < 90
    assert (coco["AP"], coco["AP50"]) == (pytest.approx(ours["AP"]), pytest.approx(ours["AP50"]))
