import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.builders import K, make_batch, make_student, make_teacher
from scipy.special import expit, rel_entr, softmax, xlogy

from wsd_distill import losses
from wsd_distill.data.mix import MixImages
from wsd_distill.distillation import ClassAware, HardLabels, SoftLabels, StudentOutput, Temperatures
from wsd_distill.distillation.views import show_outputs
from wsd_distill.modeling.multilabel_losses import build_loss

NAMES = [f"temperature/t_{kind}{suffix}" for kind in ("cls", "det", "student") for suffix in ("", "_min", "_max")]


def test_hard_labels_is_the_students_own_loss(outputs):
    student, teacher = outputs
    labels = torch.stack([x["labels"] for x in student.batched_inputs])
    torch.testing.assert_close(HardLabels()(student, teacher), losses.hard_label_loss(student.logits, labels))


def hand_made_teacher(scores, shares=None):
    """Stands for T-WDet outputs with given p (N, K) and shares."""
    return SimpleNamespace(image_scores=torch.tensor(scores), shares=shares if shares is None else torch.tensor(shares))


def loss_of_known(student, labels):
    """Eq. 10 by a loop over what is known, and its gradient by the logits."""
    value, gradient = 0.0, np.zeros(student.logits.shape)
    for n, row in enumerate(labels):
        for k, y in enumerate(row):
            p = expit(student.logits[n, k].item())
            if y >= 0:
                value -= (y * math.log(p) + (1 - y) * math.log(1 - p)) / len(labels)
                gradient[n, k] = (p - y) / len(labels)
    return value, gradient


@pytest.mark.parametrize(
    "options, unknown",
    [
        ({}, []),
        ({"unknown_above": 0.5}, [(0, 2)]),  # 0.9; the positive (0, 0) with 0.8 stays
        ({"unknown_above": 0.5, "visible_below": 0.3}, [(0, 2), (1, 1)]),
        ({"visible_below": 0.1}, []),  # a share of exactly 0.1 is not below; negatives stay
    ],
)
def test_labels_that_the_teacher_contradicts_are_unknown(outputs, options, unknown):
    """The first four labels are of classes 0, 1, 2, 0."""
    student, _ = outputs
    scores = [[0.8, 0.2, 0.9], [0.5, 0.9, 0.1], [0.1, 0.1, 0.1], [0.1, 0.1, 0.1]]
    shown = [[1.0, 0.0, 0.0], [0.0, 0.1, 1.0], [1.0, 1.0, 1.0], [0.5, 1.0, 1.0]]
    labels = np.eye(3)[[0, 1, 2, 0]]
    for place in unknown:
        labels[place] = -1
    logits = student.logits
    logits.retain_grad()
    objective = HardLabels(**options)
    assert objective.needs_scores == bool(options)
    loss = objective(student, hand_made_teacher(scores, shown))
    loss.backward()
    value, gradient = loss_of_known(student, labels)
    assert loss.item() == pytest.approx(value, rel=1e-5)
    np.testing.assert_allclose(logits.grad, gradient, rtol=1e-4, atol=1e-7)
    assert all(logits.grad[place] == 0 for place in unknown)


def test_the_shares_of_unknown_labels_are_logged(outputs):
    """Four images with one positive and two negatives each: 3 of 8 negatives, then of 16, and 1 of 4 positives."""
    student, _ = outputs
    scores = [[0.8, 0.7, 0.9], [0.6, 0.9, 0.1], [0.1, 0.1, 0.1], [0.1, 0.1, 0.1]]
    shown = [[1.0, 0.0, 0.0], [0.0, 0.1, 1.0], [1.0, 1.0, 1.0], [0.5, 1.0, 1.0]]
    objective = HardLabels(unknown_above=0.5, visible_below=0.3)
    assert objective.scalars() == {"unknown/negatives": 0, "unknown/positives": 0} and HardLabels().scalars() == {}
    objective(student, hand_made_teacher(scores, shown))
    assert objective.scalars() == {"unknown/negatives": 3 / 8, "unknown/positives": 1 / 4}
    resumed = HardLabels(unknown_above=0.5, visible_below=0.3)
    resumed.load_state_dict(objective.state_dict())
    resumed(student, hand_made_teacher([[0.0] * 3] * 4, shown))
    assert resumed.scalars() == {"unknown/negatives": 3 / 16, "unknown/positives": 1 / 4}


def test_whole_images_show_all_of_every_class(outputs):
    student, teacher = outputs
    teacher = show_outputs(teacher, student.batched_inputs)
    assert teacher.shares.tolist() == [[1.0] * 3] * 4
    assert HardLabels(visible_below=1.0)(student, teacher) == HardLabels()(student, teacher)


def test_unknown_labels_are_decided_before_mixing(outputs):
    """Mosaic and mixup of an image whose label is cut off, with one that has none of it."""
    student, _ = outputs
    np.random.seed(0)
    mixed = MixImages(mixup=0.4)(student.batched_inputs)
    mix, labels = mixed[0]["mix"], torch.eye(3)[[0, 1, 2, 0]]
    labels[0, 0] = -1
    student = StudentOutput(student.model, mixed, student.features)
    shown = torch.ones(4, 3)
    shown[0, 0] = 0.2
    loss = HardLabels(visible_below=0.3)(student, hand_made_teacher([[0.0] * 3] * 4, shown.tolist()))
    expected = mix.labels(labels)
    assert (expected == -1).sum() == 2  # of the image and of the one that it is the partner of
    torch.testing.assert_close(loss, losses.hard_label_loss(student.logits, expected))


@pytest.mark.parametrize("name", ["cross_entropy", "asymmetric", "poly", "two_way", "zlpr"])
def test_images_without_labels_have_no_loss(outputs, name):
    """A batch of unlabelled images alone, and one next to labelled ones."""
    student, teacher = outputs
    student.model.loss = build_loss(name)
    logits = student.logits
    logits.retain_grad()
    labels = torch.stack([x["labels"] for x in student.batched_inputs])
    for rows in ([0, 1, 2, 3], [1, 3]):
        logits.grad = None
        some = labels.clone()
        some[rows] = -1
        student.batched_inputs = [{"labels": y} for y in some]
        loss = HardLabels()(student, teacher)
        loss.backward(retain_graph=True)
        assert loss.isfinite() and not logits.grad[rows].any()
        assert logits.grad.any() == (len(rows) < 4)
        if len(rows) == 4 and name != "two_way":
            assert loss == 0


@pytest.mark.parametrize("options", [{"unknown_above": 1.5}, {"visible_below": -0.1}])
def test_thresholds_out_of_range(options):
    key = f"distiller.objectives.loss_hard.{next(iter(options))}"
    with pytest.raises(ValueError, match=f"{key} is .*: set it to a number from 0 to 1, or null"):
        HardLabels(**options)


def test_temperatures_start_at_one_and_are_learned(outputs):
    objective = ClassAware(num_classes=K, num_proposals=7)
    t = objective.temperatures
    assert t.t_cls.tolist() == [1] * K and t.t_det.tolist() == [1] * 7 and t.t_student.tolist() == [1] * K
    optimizer = torch.optim.SGD(objective.parameters(), lr=1.0)
    before = objective(*outputs)
    for _ in range(5):
        optimizer.zero_grad()
        objective(*outputs).backward(retain_graph=True)
        optimizer.step()
    assert objective(*outputs) < before
    for value in (t.t_cls, t.t_det, t.t_student):
        assert (value != 1).all() and (value > 0).all()
    with torch.no_grad():
        for parameter in t.parameters():
            parameter.sub_(50)  # temperatures stay positive after any step
    assert all((value > 0).all() for value in (t.t_cls, t.t_det, t.t_student))


def test_class_aware_with_temperature_one_compares_plain_predictions(outputs):
    student, teacher = outputs
    objective = ClassAware(num_classes=K, num_proposals=7, weight=2.5)
    expected = 2.5 * losses.class_aware_loss(teacher.image_scores, student.logits.sigmoid())
    torch.testing.assert_close(objective(student, teacher), expected)
    assert objective.scalars() == dict.fromkeys(NAMES, 1)
    with torch.no_grad():
        objective.temperatures.log_t_cls.copy_(torch.tensor([0.5, 1.0, 4.5]).log())
    found = objective.scalars()
    assert [found[f"temperature/t_cls{y}"] for y in ("", "_min", "_max")] == pytest.approx([2, 0.5, 4.5])


def test_images_with_fewer_proposals_use_the_first_temperatures():
    """All four images have at most 7 proposals: only the temperatures of ranks 1 to 7 have a gradient."""
    student, batch = make_student(), make_batch(4)
    with torch.no_grad():
        teacher = make_teacher().eval().compute_outputs([x["teacher"] for x in batch])
    objective = ClassAware(num_classes=K, num_proposals=9)
    objective(StudentOutput(student, batch, student.features(batch)), teacher).backward()
    gradient = objective.temperatures.log_t_det.grad
    assert (gradient[:7] != 0).all() and gradient[7:].tolist() == [0, 0]


def double(x):
    return x.detach().double().numpy()


def softened(teacher, t_cls, t_det):
    """Eq. 6-7 with (K,) and (R,) temperatures, by SciPy: (N, K)."""
    both = zip(map(double, teacher.cls_logits), map(double, teacher.det_logits))
    return np.stack([(softmax(c / t_cls, axis=1) * softmax(d / t_det[: len(d), None], axis=0)).sum(0) for c, d in both])


@pytest.mark.parametrize("distance", ["l2", "bce"])
def test_different_temperatures_by_scipy(outputs, distance):
    """All values differ, so that swapped or shifted temperatures change the result."""
    student, teacher = outputs
    objective = ClassAware(num_classes=K, num_proposals=7, weight=2.0, distance=distance)
    t_cls, t_det, t_student = np.array([0.5, 3.0, 1.2]), np.array([0.3, 2, 0.7, 4, 1.5, 0.4, 5]), np.array([2, 0.4, 6])
    for name, value in {"cls": t_cls, "det": t_det, "student": t_student}.items():
        getattr(objective.temperatures, f"log_t_{name}").data = torch.from_numpy(np.log(value)).float()
    q, p = softened(teacher, t_cls, t_det), expit(double(student.logits) / t_student)
    pairs = (q - p) ** 2 / 2 if distance == "l2" else rel_entr(q, p) + rel_entr(1 - q, 1 - p)  # (N, K)
    assert objective(student, teacher).item() == pytest.approx(2 * pairs.sum() / 4, rel=1e-4)


@pytest.mark.parametrize("t_teacher, t_student", [(1, 5), (2, 5), (3, 1)])
def test_soft_labels_by_scipy(outputs, t_teacher, t_student):
    student, teacher = outputs
    q, p = softened(teacher, t_teacher, np.full(7, t_teacher)), expit(double(student.logits) / t_student)
    expected = -(xlogy(q, p) + xlogy(1 - q, 1 - p)).sum() / 4 * t_teacher * t_student * 0.5
    objective = SoftLabels(t_teacher=t_teacher, t_student=t_student, weight=0.5)
    assert objective(student, teacher).item() == pytest.approx(expected, rel=1e-5)
    assert list(objective.parameters()) == [] and objective.teacher_features == []


PAIRS = [(1, 1), (1, 5), (2, 5), (5, 1), (3, 3), (0.5, 10)]  # the paper's are (1, 5) and (2, 5)


def soft_label_gradient(cls_logits, det_logits, t_teacher, t_student):
    """Gradient of SoftLabels for the logits m = 0 of one image."""
    m = torch.zeros(1, cls_logits.shape[1], requires_grad=True)
    student = SimpleNamespace(logits=m, mix_scores=lambda scores: scores)
    teacher = SimpleNamespace(cls_logits=[cls_logits], det_logits=[det_logits])
    SoftLabels(t_teacher=t_teacher, t_student=t_student)(student, teacher).backward()
    return m.grad[0]


@pytest.mark.parametrize("t_teacher, t_student", PAIRS)
def test_the_teachers_part_of_the_gradient_is_independent_of_both_temperatures(t_teacher, t_student):
    """For small logits it is -(mean_R c_k - mean_RK c) / K, whatever the temperatures."""
    c, d = 0.02 * torch.randn(6, 4), 0.02 * torch.randn(6, 4)
    zeros = torch.zeros(6, 4)
    change = soft_label_gradient(c, d, t_teacher, t_student) - soft_label_gradient(zeros, zeros, t_teacher, t_student)
    torch.testing.assert_close(change, -(c.mean(0) - c.mean()) / 4, rtol=0.05, atol=1e-4)


@pytest.mark.parametrize("t_student", [1, 2, 5, 20])
def test_a_certain_teacher_at_temperature_one_has_the_gradient_of_hard_labels(t_student):
    """Proposal 0 is of class 0, proposal 1 of class 2: p'^T is (1, 0, 1, 0)."""
    logits = torch.tensor([[100.0, 0, 0, 0], [0, 0, 100.0, 0]])
    labels, m = torch.tensor([[1.0, 0, 1, 0]]), torch.zeros(1, 4, requires_grad=True)
    losses.hard_label_loss(m, labels).backward()
    gradient = soft_label_gradient(logits, logits, 1, t_student)
    torch.testing.assert_close(gradient, m.grad[0])
    assert gradient.tolist() == pytest.approx([-0.5, 0.5, -0.5, 0.5])


@pytest.mark.parametrize("objective", [HardLabels(), SoftLabels(t_teacher=1, t_student=5)], ids=["hard", "soft_labels"])
def test_all_student_parameters_have_a_gradient_and_the_teacher_has_none(outputs, objective):
    student, teacher = outputs
    objective(student, teacher).backward()
    assert all(p.grad.abs().sum() > 0 for p in student.model.parameters())
    assert not any(logits.requires_grad for logits in [*teacher.cls_logits, *teacher.det_logits])


def test_cross_entropy_distance_by_scipy(outputs):
    """Kullback-Leibler divergence of Bernoulli variables, summed over classes, averaged over four images."""
    student, teacher = outputs
    objective = ClassAware(
        num_classes=K, num_proposals=7, weight=2.0, distance="bce", temperatures="fixed", initial=3.0
    )
    q, p = softened(teacher, 3, np.full(7, 3)), expit(double(student.logits) / 3)
    expected = 2 * (rel_entr(q, p) + rel_entr(1 - q, 1 - p)).sum() / 4
    assert objective(student, teacher).item() == pytest.approx(expected, rel=1e-4)


def test_cross_entropy_trains_all_temperatures(outputs):
    objective = ClassAware(num_classes=K, num_proposals=7, distance="bce")
    objective(*outputs).backward()
    assert all((p.grad != 0).all() for p in objective.parameters())


@pytest.mark.parametrize("kind, sizes", [("per_class", [K, 7, K]), ("shared", [1, 1, 1]), ("fixed", [])])
def test_kinds_of_temperatures(outputs, kind, sizes):
    objective = ClassAware(num_classes=K, num_proposals=7, temperatures=kind, initial=2.0)
    assert [len(p) for p in objective.parameters()] == sizes
    assert list(objective.state_dict()) == [f"temperatures.log_t_{x}" for x in ("cls", "det", "student")][: len(sizes)]
    t = objective.temperatures
    assert [len(value) for value in (t.t_cls, t.t_det, t.t_student)] == [K, 7, K]
    assert objective.scalars() == pytest.approx(dict.fromkeys(NAMES, 2))
    if sizes:
        objective(*outputs).backward()
        torch.optim.SGD(objective.parameters(), lr=1.0).step()
        values = [len(set(value.tolist())) for value in (t.t_cls, t.t_det, t.t_student)]
        assert values == sizes  # number of different values
        assert not math.isclose(objective.scalars()["temperature/t_student"], 2)


def test_fixed_temperatures_are_moved_with_the_module():
    t = Temperatures(K, 7, "fixed").to("meta")
    assert {value.device.type for value in (t.t_cls, t.t_det, t.t_student)} == {"meta"}


def test_an_unknown_option_is_an_error():
    with pytest.raises(ValueError, match="got 'per_proposal'"):
        ClassAware(num_classes=K, num_proposals=7, temperatures="per_proposal")
    with pytest.raises(ValueError, match="got 'l1'"):
        ClassAware(num_classes=K, num_proposals=7, distance="l1")


def test_prediction_objectives_use_no_feature_map():
    assert HardLabels().teacher_features == ClassAware(num_classes=K, num_proposals=7).teacher_features == []
