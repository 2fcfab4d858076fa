import numpy as np
import pytest
import torch
from detectron2.structures import Boxes
from helpers.benchmarks import load_benchmark

from wsd_distill.data.geometry import Geometry
from wsd_distill.evaluation.detections import GroundTruth
from wsd_distill.modeling import WSDDNOutput

benchmark = load_benchmark("visible_labels")


def test_share_area_and_truth_of_each_label():
    """The left half of a 100 x 40 image: object 0 is in it, object 1 a third, and of class 1 a second one fully."""
    crop = Geometry((0, 0, 50, 40), (40, 100))
    regions = np.array([[0, 0, 20, 20], [30, 0, 90, 40], [60, 0, 80, 20.0]])
    cls, det = torch.randn(3, 4), torch.randn(3, 4)
    boxes = np.array([[0, 0, 20, 20], [40, 0, 70, 30], [5, 5, 9, 9], [60, 0, 90, 40.0]])
    objects = GroundTruth(np.zeros(4, int), boxes, np.array([0, 1, 1, 3]), np.zeros(4, bool), np.zeros(4, bool))

    rows = benchmark["measure"](crop, regions, WSDDNOutput({}, [Boxes(regions)], [cls], [det]), objects, 0.5)

    scores = cls.softmax(1) * det.softmax(0)
    assert [row[0] for row in rows] == pytest.approx([float(scores[0, k] / scores[:, k].sum()) for k in (0, 1, 3)])
    assert [row[1:] for row in rows] == [(0.5, True), (0.5, True), (0.5, False)]


def test_summary_counts_what_the_limits_make_unknown():
    labels = benchmark["Labels"](np.array([0.0, 0.03, 0.3, 0.9]), np.full(4, 0.5), np.array([0, 1, 1, 1], bool))
    text = benchmark["summarize"](labels)
    assert "4 pairs of crop and label, 25.0 % not visible" in text
    lines = [line.split() for line in text.splitlines()]
    assert ["control:", "share", "of", "the", "image's", "area", "0.500"] in lines
    assert ["0.01", "25", "100"] in lines and ["0.05", "50", "50"] in lines
