import math

import numpy as np
import pytest
import timm
import torch
from detectron2.layers import ShapeSpec
from detectron2.structures import Boxes, Instances
from helpers.builders import K, make_batch, make_pair, make_student, make_teacher
from timm.task import FeatureDistillationTask
from torchvision.ops import box_iou, roi_align, roi_pool

from wsd_distill.data.mix import MixImages
from wsd_distill.distillation import (
    AttentionTransfer,
    FeatureDistillation,
    FitNetsHint,
    LabelWiseEmbeddings,
    LayerPair,
    Objective,
    RegionConsistent,
    RoIAwareTransfer,
    StudentOutput,
)
from wsd_distill.modeling import WSDDNOutput

SHAPES = {"conv1": ShapeSpec(channels=4, stride=1), "conv2": ShapeSpec(channels=6, stride=2)}  # as in helpers.builders


def built(objective, student_shapes=SHAPES):
    objective.build(student_shapes, SHAPES)
    return objective


def build(student_shapes=SHAPES, **options):
    options = {"layers": [make_pair()], "pooler_size": 3, "num_proposals": 3, **options}
    return built(RoIAwareTransfer(**options), student_shapes)


@pytest.mark.parametrize("limit", [2, 7])
def test_roi_aware_by_plain_loops(outputs, limit):
    """Eq. 3-4 in plain loops: NMS, RoI pooling in both networks, weighting, mean of squares."""
    student, teacher = outputs
    total, counts = 0.0, []
    for i, (record, boxes, s) in enumerate(zip(student.batched_inputs, teacher.boxes, teacher.objectness)):
        overlaps, order, kept = box_iou(boxes.tensor, boxes.tensor), s.argsort(descending=True).tolist(), []
        for r in order:
            if all(overlaps[r, other] <= 0.4 for other in kept):
                kept.append(r)
        kept = kept[:limit]
        counts.append(len(kept))
        for r in kept:
            student_roi = roi_pool(student.features["conv2"][i : i + 1], [boxes.tensor[r : r + 1] / 2], 3, 1 / 2)
            teacher_roi = roi_pool(teacher.features["conv2"][i : i + 1], [boxes.tensor[r : r + 1]], 3, 1 / 2)
            total += (s[r] * teacher_roi - s[r] * student_roi).square().sum() / len(kept)
        assert torch.allclose(record["proposals"].proposal_boxes.tensor * 2, boxes.tensor)
    torch.testing.assert_close(build(num_proposals=limit)(student, teacher), total / (2 * 4))
    assert len(set(counts)) == (1 if limit == 2 else 3)  # |R'_n| differs between images


def test_proposals_are_sorted_by_objectness():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30], [40, 40, 50, 50]])
    objectness = torch.tensor([0.2, 0.9, 0.5, 0.6])
    assert build(num_proposals=2)._select_proposals(boxes, objectness).tolist() == [1, 3]
    assert build(num_proposals=7)._select_proposals(boxes, objectness).tolist() == [1, 3, 2]
    assert build(num_proposals=4, nms_thresh=0.95)._select_proposals(boxes, objectness).tolist() == [1, 3, 2, 0]


@pytest.mark.parametrize("percent, kept", [(39, [0, 1]), (41, [0])])
def test_nms_threshold_is_0_4(percent, kept):
    """The second box is the upper part of the first: their IoU is its height in percent."""
    boxes = torch.tensor([[0.0, 0, 100, 100], [0, 0, 100, percent]])
    indices = build(num_proposals=2)._select_proposals(boxes, torch.tensor([0.6, 0.4])).tolist()
    assert sorted(set(indices)) == kept


def test_several_layers_are_summed(outputs):
    one, both = build(), build(layers=[make_pair(), make_pair()])
    torch.testing.assert_close(both(*outputs), 2 * one(*outputs))
    torch.testing.assert_close(build(weight=0.25)(*outputs), one(*outputs) / 4)


def test_psi_is_learned_if_channels_differ():
    student, batch = make_student(channels=5), make_batch(2)
    with torch.no_grad():
        teacher = make_teacher().eval().compute_outputs([x["teacher"] for x in batch])
    objective = build({**SHAPES, "conv2": ShapeSpec(channels=5, stride=2)})
    view = StudentOutput(student, batch, student.features(batch))
    objective(view, teacher).backward()
    assert [tuple(p.shape) for p in objective.parameters()] == [(6, 5, 1, 1), (6,)]
    assert all(p.grad.abs().sum() > 0 for p in objective.parameters())
    assert list(build().parameters()) == []


def test_without_weighting_the_factor_of_each_proposal_is_one(outputs):
    """Each of the three proposals of an image has the factor 1/3 instead of s' squared over 3."""
    student, teacher = outputs
    objective, total = build(weighting="none"), 0.0
    for i, (boxes, s) in enumerate(zip(teacher.boxes, teacher.objectness)):
        for r in objective._select_proposals(boxes.tensor, s).tolist():
            student_roi = roi_pool(student.features["conv2"][i : i + 1], [boxes.tensor[r : r + 1] / 2], 3, 1 / 2)
            teacher_roi = roi_pool(teacher.features["conv2"][i : i + 1], [boxes.tensor[r : r + 1]], 3, 1 / 2)
            total += ((teacher_roi - student_roi) ** 2).sum() / 3
    torch.testing.assert_close(objective(student, teacher), total / (2 * 4))
    assert objective(student, teacher) > 4 * build()(student, teacher)


def without_regions(teacher, *images):
    """The outputs without the proposals of these images."""
    names = ("boxes", "cls_logits", "det_logits")
    kept = {name: [x[:0] if i in images else x for i, x in enumerate(getattr(teacher, name))] for name in names}
    return WSDDNOutput(teacher.features, **kept)


def test_normalized_weights_are_divided_by_the_largest_of_the_image(outputs):
    """One image with regions whose s' are a, b, c: its loss with s' divided by a is 1 / a^2 times the other."""
    student, teacher = outputs
    teacher = without_regions(teacher, 0, 1, 2)
    largest = teacher.objectness[3].max()
    assert build()(student, teacher) > 0 and largest < 0.9
    torch.testing.assert_close(build(weighting="normalized")(student, teacher), build()(student, teacher) / largest**2)


@pytest.mark.parametrize("pooler_type", ["ROIPool", "ROIAlignV2"])
@pytest.mark.parametrize("weighting", ["objectness", "normalized", "none"])
def test_images_without_regions_add_nothing(outputs, weighting, pooler_type):
    student, teacher = outputs
    objective = build(weighting=weighting, pooler_type=pooler_type)
    total = sum(objective(student, without_regions(teacher, *({0, 1, 2, 3} - {i}))) for i in range(1, 4))
    torch.testing.assert_close(objective(student, without_regions(teacher, 0)), total)
    loss = objective(student, without_regions(teacher, 0, 1, 2, 3))
    loss.backward()
    assert loss.item() == 0


def test_roi_align_by_torchvision(outputs):
    student, teacher = outputs
    objective, total = build(pooler_type="ROIAlignV2"), 0.0
    for i, (boxes, s) in enumerate(zip(teacher.boxes, teacher.objectness)):
        for r in objective._select_proposals(boxes.tensor, s).tolist():
            args = {"output_size": 3, "spatial_scale": 1 / 2, "sampling_ratio": 0, "aligned": True}
            student_roi = roi_align(student.features["conv2"][i : i + 1], [boxes.tensor[r : r + 1] / 2], **args)
            teacher_roi = roi_align(teacher.features["conv2"][i : i + 1], [boxes.tensor[r : r + 1]], **args)
            total += s[r] ** 2 * ((teacher_roi - student_roi) ** 2).sum() / 3
    torch.testing.assert_close(objective(student, teacher), total / (2 * 4))


def cells_of_a_bin(start, end, size, cells):
    """Cells of each RoIPool bin along one axis: corners are rounded, bins rounded outwards and clipped to the map."""
    low, high = (math.floor(x + 0.5) for x in (start, end))
    step = max(high - low + 1, 1) / size
    bounds = [(low + math.floor(i * step), low + math.ceil((i + 1) * step)) for i in range(size)]
    return [range(max(a, 0), min(b, cells)) for a, b in bounds]


def test_bins_without_cells_of_a_map_are_left_out():
    """Student: 3 x 3 cells of 32 pixels, teacher: 7 x 7; some RoIs at the edge have no cell of the student's map."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"map": ShapeSpec(channels=2, stride=32)}
    maps = [torch.rand(1, 2, cells, cells, generator=generator) + 1 for cells in (3, 7)]
    corners = torch.tensor([[82.0, 10, 95, 90], [10, 84, 60, 95], [0, 0, 96, 96], [20, 30, 70, 60]])
    logits = torch.randn(4, 3, generator=generator)
    boxes = Boxes(corners * 224 / 96)
    teacher = WSDDNOutput({"map": maps[1]}, [boxes], [logits], [logits.flip(1)])
    record = {"proposals": Instances((96, 96), proposal_boxes=Boxes(corners))}
    objective = RoIAwareTransfer(layers=[LayerPair("map", "map")], pooler_size=2, nms_thresh=1.0)
    objective.build(shapes, shapes)
    total, empty = 0.0, 0
    for r, s in enumerate(teacher.objectness[0].tolist()):
        found = []
        for box, values in ((corners[r] / 32, maps[0]), (boxes.tensor[r] / 32, maps[1])):
            x0, y0, x1, y1 = box.tolist()
            axes = [cells_of_a_bin(a, b, 2, values.shape[-1]) for a, b in ((y0, y1), (x0, x1))]
            found.append([values[0][:, rows][:, :, columns] for rows in axes[0] for columns in axes[1]])
        for student_bin, teacher_bin in zip(*found):
            if student_bin.numel() and teacher_bin.numel():
                total += s**2 * ((student_bin.amax((1, 2)) - teacher_bin.amax((1, 2))) ** 2).sum().item()
            else:
                empty += 1
    assert empty >= 8  # the first two RoIs have no cell of the student's map
    loss = objective(StudentOutput(None, [record], {"map": maps[0]}), teacher)
    assert loss.item() == pytest.approx(total / 4 / 2, rel=1e-5)


@pytest.mark.parametrize("options", [{"weighting": "s"}, {"pooler_type": "ROIAlign"}])
def test_unknown_options_are_errors_that_list_the_values(options):
    (name,) = options
    with pytest.raises(ValueError, match=f'{name} must be "'):
        build(**options)


def test_feature_distillation_equals_timms_task():
    """timm's own task on two of its networks, whose pooled features are those of their last maps."""
    student, teacher = (timm.create_model(f"test_{name}", num_classes=3).eval() for name in ("efficientnet", "resnet"))
    task = FeatureDistillationTask(student, teacher, torch.nn.CrossEntropyLoss(), verbose=False)
    projection = task.trainable_module.projection
    shapes = [{"last": ShapeSpec(channels=net.num_features, stride=32)} for net in (student, teacher)]
    objective = FeatureDistillation(layer=LayerPair("last", "last"), weight=5.0)
    objective.build(*shapes)
    objective.projection.load_state_dict(projection.state_dict())
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        expected = task(images, torch.tensor([0, 1]))["kd_loss"]
        normalized = task.teacher.normalize_input(images, task.student_mean, task.student_std)
        view = StudentOutput(None, [], {"last": student.forward_features(images)})
        output = WSDDNOutput({"last": teacher.forward_features(normalized)}, [], [], [])
    assert expected > 0
    torch.testing.assert_close(objective(view, output), 5 * expected)


def test_feature_distillation_without_projection_where_channels_are_equal(outputs):
    student, teacher = outputs
    objective = built(FeatureDistillation(layer=make_pair()))
    difference = (pooled(teacher.features["conv2"], 1) - pooled(student.features["conv2"], 1)).squeeze()
    assert list(objective.parameters()) == [] and objective.teacher_features == ["conv2"]
    assert objective(student, teacher).item() == pytest.approx((difference**2).mean(), rel=1e-5)


def pooled(features, size):
    """Average pooling in NumPy: (N, C, h, w) -> (N, C, size, size), for h and w a multiple of ``size``."""
    x = features.detach().double().numpy()
    step = x.shape[-1] // size
    return x.reshape(*x.shape[:2], size, step, size, step).mean((3, 5))


def test_hint_by_numpy(outputs):
    """The teacher's 16 x 16 cells are pooled to 8 x 8; the regressor is a matrix product over channels."""
    student, teacher = outputs
    objective = built(FitNetsHint(layer=make_pair(), weight=0.5))
    weight, bias = (p.detach().double().numpy() for p in objective.regressor.parameters())
    student_map = np.einsum("oc,nchw->nohw", weight[:, :, 0, 0], student.features["conv2"].detach().double().numpy())
    difference = pooled(teacher.features["conv2"], 8) - student_map - bias[:, None, None]
    assert difference.shape == (4, 6, 8, 8)
    expected = 0.5 * (difference**2).sum() / (4 * 6 * 8 * 8) / 2
    assert objective(student, teacher).item() == pytest.approx(expected, rel=1e-5)


def test_the_hint_has_gradients_up_to_the_guided_layer(outputs):
    student, teacher = outputs
    objective = built(FitNetsHint(layer=LayerPair(teacher="conv2", student="conv1")))
    objective(student, teacher).backward()
    reached = {name.split(".")[1] for name, p in student.model.named_parameters() if p.grad is not None}
    assert reached == {"conv1"}
    assert [tuple(p.shape) for p in objective.parameters()] == [(6, 4, 1, 1), (6,)]
    assert all(p.grad.abs().sum() > 0 for p in objective.parameters())
    assert not teacher.features["conv2"].requires_grad


def test_attention_transfer_by_numpy(outputs):
    """Eq. 2 for two layers; the teacher's maps have 32 x 32 and 16 x 16 cells, the student's half per side."""
    student, teacher = outputs
    layers = [LayerPair(name, name) for name in ("conv1", "conv2")]
    objective, total = AttentionTransfer(layers=layers, beta=10.0), 0.0
    for name, side in (("conv1", 16), ("conv2", 8)):
        student_map = (student.features[name].detach().double().numpy() ** 2).sum(1)
        target = pooled((teacher.features[name] ** 2).sum(1, keepdim=True), side)[:, 0]
        for a, b in zip(student_map, target):
            distance = a / np.linalg.norm(a) - b / np.linalg.norm(b)
            total += (distance**2).sum() / side**2 / 4
    assert objective(student, teacher).item() == pytest.approx(10 / 2 * total, rel=1e-5)
    assert list(objective.parameters()) == []


def test_attention_is_invariant_to_channels_and_scale(outputs):
    student, teacher = outputs
    objective = AttentionTransfer(layers=[LayerPair(teacher="conv2", student="conv1")])
    before = objective(student, teacher)
    scaled = {name: 7 * value for name, value in student.features.items()}
    torch.testing.assert_close(objective(StudentOutput(student.model, student.batched_inputs, scaled), teacher), before)
    before.backward()
    assert student.model.backbone.conv1[0].weight.grad.abs().sum() > 0


def test_names_of_the_teacher_features():
    pairs = [LayerPair(teacher=name, student="conv2") for name in ("conv2", "conv1", "conv2")]
    assert build(layers=pairs).teacher_features == ["conv2", "conv1"]
    assert AttentionTransfer(layers=pairs).teacher_features == ["conv2", "conv1"]
    assert FitNetsHint(layer=pairs[1]).teacher_features == ["conv1"]


@pytest.mark.parametrize("pair, model", [(("conv2", "conv9"), "student"), (("conv9", "conv2"), "teacher")])
@pytest.mark.parametrize("kind", ["roi", "hint", "attention", "features", "embeddings"])
def test_an_unknown_layer_is_an_error_that_lists_the_layers_of_the_backbone(kind, pair, model):
    pair = LayerPair(*pair)
    objective = {
        "roi": RoIAwareTransfer(layers=[pair]),
        "hint": FitNetsHint(layer=pair),
        "attention": AttentionTransfer(layers=[pair]),
        "features": FeatureDistillation(layer=pair),
        "embeddings": LabelWiseEmbeddings(layer=pair, num_classes=3),
    }[kind]
    message = rf"the {model}'s backbone has no feature map 'conv9'; it has \['conv1', 'conv2'\]"
    with pytest.raises(ValueError, match=message):
        objective.build(SHAPES, SHAPES)


def test_an_objective_must_define_forward_and_has_defaults_for_the_rest():
    with pytest.raises(TypeError, match="forward"):
        Objective()

    class Zero(Objective):
        def forward(self, student, teacher):
            return student.logits.sum() * 0

    assert (Zero().teacher_features, Zero().scalars()) == ([], {})


@pytest.mark.parametrize(
    "objective",
    [
        RoIAwareTransfer(layers=[make_pair()], pooler_size=3),
        RegionConsistent(layer=make_pair(), adapter="identity", regions="both"),
    ],
)
def test_a_mosaic_of_a_loader_of_ones_own_is_refused(outputs, objective):
    student, teacher = outputs
    objective = built(objective)
    if isinstance(objective, RegionConsistent):
        objective.deviation.fill_(1)
    assert objective(student, teacher).isfinite()
    for x in student.batched_inputs:
        x["mix"] = MixImages(mosaic=True)._draw("mosaic", 4)
    with pytest.raises(ValueError, match="features of proposals cannot be compared in a mosaic"):
        objective(student, teacher)


@pytest.mark.parametrize(
    "objective",
    [
        LabelWiseEmbeddings(layer=make_pair(), num_classes=K, dim=8, num_heads=2),
        RegionConsistent(layer=make_pair(), regions="proposals"),
    ],
)
def test_padded_maps_of_a_loader_of_ones_own_are_refused(outputs, objective):
    student, teacher = outputs
    run = built(objective).fit_step if isinstance(objective, RegionConsistent) else built(objective)
    run(student, teacher)
    student.batched_inputs[0]["image"] = torch.zeros(3, 8, 8, dtype=torch.uint8)
    with pytest.raises(ValueError, match="images have several sizes"):
        run(student, teacher)
