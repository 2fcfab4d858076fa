import pytest
import torch
from builders import K, make_batch, make_pair, make_student, make_teacher
from torchvision.ops import roi_pool

from wsd_distill import losses
from wsd_distill.distillation import ClassAware, HardLabels, RoIAware, StudentView


@pytest.fixture
def views():
    """A student's and a teacher's view of the same four images, which have 4, 5, 6 and 7 proposals."""
    student, batch = make_student(), make_batch(4)
    with torch.no_grad():
        teacher = make_teacher().eval().extract([x["teacher"] for x in batch])
    return StudentView(student, batch, student.features(batch)), teacher


def build(**options):
    return RoIAware(**{"layers": [make_pair()], "pooler_size": 3, "num_proposals": 3, **options})


def test_hard_labels_is_the_students_own_loss(views):
    student, teacher = views
    labels = torch.stack([x["labels"] for x in student.batched_inputs])
    torch.testing.assert_close(HardLabels()(student, teacher), losses.hard_label_loss(student.logits, labels))


def test_temperatures_are_one_at_first_and_learnable(views):
    objective = ClassAware(num_classes=K, num_proposals=7)
    t = objective.temperatures
    assert t.t_cls.tolist() == [1] * K and t.t_det.tolist() == [1] * 7 and t.t_student.tolist() == [1] * K
    optimizer = torch.optim.SGD(objective.parameters(), lr=1.0)
    before = objective(*views)
    for _ in range(5):
        optimizer.zero_grad()
        objective(*views).backward(retain_graph=True)
        optimizer.step()
    assert objective(*views) < before
    for value in (t.t_cls, t.t_det, t.t_student):
        assert (value != 1).all() and (value > 0).all()
    with torch.no_grad():
        for parameter in t.parameters():
            parameter.sub_(50)  # a step however large leaves them positive
    assert all((value > 0).all() for value in (t.t_cls, t.t_det, t.t_student))


def test_class_aware_with_temperature_one_compares_plain_predictions(views):
    student, teacher = views
    objective = ClassAware(num_classes=K, num_proposals=7, weight=2.5)
    expected = 2.5 * losses.class_aware_loss(teacher.image_scores, student.logits.sigmoid())
    torch.testing.assert_close(objective(student, teacher), expected)
    assert objective.scalars() == {"temperature/t_cls": 1, "temperature/t_det": 1, "temperature/t_student": 1}


def test_images_with_fewer_proposals_use_the_first_temperatures():
    """All four images have at most 7 proposals: temperatures of ranks 8 and 9 get no gradient, those before do."""
    student, batch = make_student(), make_batch(4)
    with torch.no_grad():
        teacher = make_teacher().eval().extract([x["teacher"] for x in batch])
    objective = ClassAware(num_classes=K, num_proposals=9)
    objective(StudentView(student, batch, student.features(batch)), teacher).backward()
    gradient = objective.temperatures.log_t_det.grad
    assert (gradient[:7] != 0).all() and gradient[7:].tolist() == [0, 0]


def test_roi_aware_by_plain_loops(views):
    """Eq. 3-4 written out: keep, recycle, pool each box of both networks, weight, square, average."""
    student, teacher = views
    total = 0.0
    for i, (record, boxes, s) in enumerate(zip(student.batched_inputs, teacher.boxes, teacher.objectness)):
        order, kept = s.argsort(descending=True).tolist(), []
        for r in order:
            if all(iou(boxes.tensor[r], boxes.tensor[other]) <= 0.4 for other in kept):
                kept.append(r)
        kept = (kept[:3] * 3)[:3]
        for r in kept:
            mine = roi_pool(student.features["conv2"][i : i + 1], [boxes.tensor[r : r + 1] / 2], 3, 1 / 2)
            wanted = roi_pool(teacher.features["conv2"][i : i + 1], [boxes.tensor[r : r + 1]], 3, 1 / 2)
            total += (s[r] * wanted - s[r] * mine).square().sum() / 3
        assert torch.allclose(record["proposals"].proposal_boxes.tensor * 2, boxes.tensor)
    torch.testing.assert_close(build()(student, teacher), total / (2 * 4))


def iou(a, b):
    w, h = (min(a[i + 2], b[i + 2]) - max(a[i], b[i]) for i in (0, 1))
    inside = max(w, 0) * max(h, 0)
    return inside / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inside)


def test_keeps_the_most_confident_and_recycles_from_the_best():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30], [40, 40, 50, 50]])
    objectness = torch.tensor([0.2, 0.9, 0.5, 0.6])
    assert build(num_proposals=2)._keep(boxes, objectness).tolist() == [1, 3]
    assert build(num_proposals=7)._keep(boxes, objectness).tolist() == [1, 3, 2, 1, 3, 2, 1]
    assert build(num_proposals=4, nms_thresh=0.95)._keep(boxes, objectness).tolist() == [1, 3, 2, 0]


@pytest.mark.parametrize("percent, kept", [(39, [0, 1]), (41, [0])])
def test_an_overlap_above_0_4_is_left_out(percent, kept):
    """The lower box is the upper part of the first: their IoU is its height in percent."""
    boxes = torch.tensor([[0.0, 0, 100, 100], [0, 0, 100, percent]])
    indices = build(num_proposals=2)._keep(boxes, torch.tensor([0.6, 0.4])).tolist()
    assert sorted(set(indices)) == kept


def test_several_layers_are_summed(views):
    one, both = build(), build(layers=[make_pair(), make_pair()])
    torch.testing.assert_close(both(*views), 2 * one(*views))
    torch.testing.assert_close(build(weight=0.25)(*views), one(*views) / 4)


def test_psi_is_learned_where_channels_differ():
    student, batch = make_student(channels=5), make_batch(2)
    with torch.no_grad():
        teacher = make_teacher().eval().extract([x["teacher"] for x in batch])
    objective = build(layers=[make_pair(teacher_channels=6, student_channels=5)])
    view = StudentView(student, batch, student.features(batch))
    objective(view, teacher).backward()
    assert [tuple(p.shape) for p in objective.parameters()] == [(6, 5, 1, 1), (6,)]
    assert all(p.grad.abs().sum() > 0 for p in objective.parameters())
    assert list(build().parameters()) == []
