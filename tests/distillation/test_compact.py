"""The losses of all objectives from the cache's rows are within 1 % of those from the teacher's float32 outputs."""

from types import SimpleNamespace

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.structures import Boxes

from wsd_distill.distillation import (
    AttentionTransfer,
    ClassAware,
    FeatureDistillation,
    FitNetsHint,
    LabelWiseEmbeddings,
    LayerPair,
    MultiLabelLogits,
    RegionConsistent,
    RoIAwareTransfer,
    SoftLabels,
)
from wsd_distill.distillation.compact import pack, pack_logits, unpack, unpack_logits
from wsd_distill.modeling import WSDDNOutput

N, R, K, C, SIZE, STRIDE = 8, 100, 20, 32, 192, 16
CPU = torch.device("cpu")
PAIR = LayerPair(teacher="map", student="map")


@pytest.mark.parametrize("bits", [8, 10])
def test_the_error_is_at_most_half_a_step_and_zero_is_exact(bits):
    """A step is the range of a channel, with 0 in it, divided by 254 or 1022."""
    torch.manual_seed(0)
    x = torch.randn(4, 5, 7) * torch.tensor([1e-6, 1.0, 1e6, 0.0])[:, None, None]
    x[1] = x[1].relu()
    found = unpack(pack(x, bits), CPU)
    for values, theirs in zip(x.flatten(1).tolist(), found.flatten(1).tolist()):
        step = (max(*values, 0) - min(*values, 0)) / {8: 254, 10: 1022}[bits]
        for value, other in zip(values, theirs):
            assert abs(value - other) <= step / 2 * (1 + 1e-4)
            assert value != 0 or other == 0


def test_a_relu_map_takes_less_the_more_zeros_it_has():
    torch.manual_seed(0)
    sizes = []
    for zeros in (0.5, 0.9):
        x = torch.randn(64, 24, 24).abs() * (torch.rand(64, 24, 24) > zeros)
        sizes.append(len(pack(x)) / x.numel())
    assert sizes[1] < 0.25 < sizes[0] < 0.8


@pytest.mark.parametrize("regions", [0, 1, 5])
def test_logits_of_any_number_of_regions(regions):
    cls_logits, det_logits = torch.randn(2, regions, 3)
    for found, expected in zip(unpack_logits(pack_logits(cls_logits, det_logits), CPU), (cls_logits, det_logits)):
        assert found.shape == (regions, 3)
        torch.testing.assert_close(found, expected, rtol=0, atol=0.005)


def make_outputs():
    """A teacher's outputs with clear and unclear classes, smooth maps, and the output of an unrelated student."""
    torch.manual_seed(0)
    corner, side = torch.rand(N, R, 2) * 100, torch.rand(N, R, 2) * 80 + 12
    boxes = [Boxes(b) for b in torch.cat([corner, corner + side], 2)]
    small = torch.randn(N, C, 6, 6).relu() * torch.rand(C)[:, None, None] * 10
    maps = torch.nn.functional.interpolate(small, SIZE // STRIDE, mode="bilinear")
    strength = torch.randn(N, 1, K) * 4
    cls_logits, det_logits = torch.randn(N, R, K) * 2 + strength, torch.randn(N, R, K) * 3 + strength
    teacher = WSDDNOutput({"map": maps}, boxes, list(cls_logits), list(det_logits))
    labels = (torch.rand(N, K) < 0.3).float()
    inputs = [{"labels": x, "image": torch.zeros(3, SIZE, SIZE)} for x in labels]
    student = SimpleNamespace(
        features={"map": maps.roll(2, 3) + torch.randn_like(maps)},
        logits=torch.randn(N, K) * 3,
        labels=labels,
        boxes=boxes,
        ranks=[torch.arange(R)] * N,
        mix=None,
        mix_scores=lambda scores: scores,
        batched_inputs=inputs,
    )
    return teacher, student


def show(output, rows):
    """What crops show: some regions of each image."""
    boxes = [b[i] for b, i in zip(output.boxes, rows)]
    logits = ([x[i] for x, i in zip(part, rows)] for part in (output.cls_logits, output.det_logits))
    return WSDDNOutput(output.features, boxes, *logits)


def compact(output):
    maps = {name: torch.stack([unpack(pack(x), CPU) for x in maps]) for name, maps in output.features.items()}
    logits = [unpack_logits(pack_logits(c, d), CPU) for c, d in zip(output.cls_logits, output.det_logits)]
    return WSDDNOutput(maps, output.boxes, [c for c, _ in logits], [d for _, d in logits])


OBJECTIVES = {
    "roi": RoIAwareTransfer(layers=[PAIR]),
    "roi normalized": RoIAwareTransfer(layers=[PAIR], weighting="normalized"),
    "class-aware": ClassAware(num_classes=K, num_proposals=R),
    "class-aware, cold": ClassAware(num_classes=K, num_proposals=R, initial=0.5),
    "class-aware, bce": ClassAware(num_classes=K, num_proposals=R, initial=2.0, distance="bce"),
    "soft labels": SoftLabels(t_teacher=1.0, t_student=5.0),
    "L2D logits": MultiLabelLogits(),
    "L2D embeddings": LabelWiseEmbeddings(layer=PAIR, num_classes=K, label_weight=0.0, dim=32, num_heads=4),
    "hint": FitNetsHint(layer=PAIR),
    "attention": AttentionTransfer(layers=[PAIR]),
    "pooled features": FeatureDistillation(layer=PAIR),
    "regions, view": RegionConsistent(layer=PAIR, adapter="identity"),
    "regions, both": RegionConsistent(layer=PAIR, adapter="identity", regions="both"),
}


@pytest.mark.parametrize("crops", [False, True])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_loss_is_within_a_percent(name, crops):
    teacher, student = make_outputs()
    shapes = {"map": ShapeSpec(channels=C, stride=STRIDE)}
    torch.manual_seed(1)
    objective = OBJECTIVES[name]
    objective.build(shapes, shapes)
    if isinstance(objective, RegionConsistent):
        objective.deviation.copy_(teacher.features["map"].std((0, 2, 3)))
    rows = [torch.randperm(R)[: R // 3].sort()[0] if crops else torch.arange(R) for _ in range(N)]
    student.ranks = rows
    student.boxes = [b[i] for b, i in zip(student.boxes, rows)]
    with torch.no_grad():
        expected, found = (objective(student, show(output, rows)).item() for output in (teacher, compact(teacher)))
    assert expected > 0 and found == pytest.approx(expected, rel=1e-2)
