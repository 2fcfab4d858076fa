import copy

import pytest
import torch
from builders import K, make_batch, make_pair, make_student, make_teacher

from wsd_distill.distillation import (
    ClassAware,
    Distiller,
    HardLabels,
    Objectives,
    RoIAware,
    TeacherCheckpointError,
)


@pytest.fixture
def checkpoint(tmp_path):
    """A teacher with BatchNorm and dropout that has seen some data."""
    teacher = make_teacher(norm="BN", dropout=0.5).train()
    teacher([x["teacher"] for x in make_batch()])
    path = tmp_path / "teacher.pth"
    torch.save({"model": teacher.state_dict(), "iteration": 1}, path)
    return str(path)


def build(checkpoint, stage=2, **options):
    if stage == 1:
        objectives = Objectives(loss_roi=RoIAware(layers=[make_pair()], pooler_size=3, num_proposals=3))
        options.setdefault("frozen", ["head", "classifier"])
    else:
        objectives = Objectives(loss_hard=HardLabels(), loss_class_aware=ClassAware(num_classes=K, num_proposals=7))
    teacher = options.pop("teacher", None) or make_teacher(norm="BN", dropout=0.5)
    return Distiller(
        student=make_student(norm="BN"),
        teacher=teacher,
        teacher_checkpoint=checkpoint,
        objectives=objectives,
        **options,
    )


def train(distiller, steps=4):
    optimizer = torch.optim.SGD([p for p in distiller.parameters() if p.requires_grad], lr=0.1, weight_decay=0.1)
    distiller.train()
    for seed in range(steps):
        optimizer.zero_grad()
        sum(distiller(make_batch(seed=seed)).values()).backward()
        optimizer.step()


@pytest.mark.parametrize("stage", [1, 2])
def test_the_teacher_is_bit_identical_after_training(checkpoint, stage):
    distiller = build(checkpoint, stage)
    wanted = torch.load(checkpoint, weights_only=True)["model"]
    train(distiller)
    state = distiller.teacher.state_dict()
    assert "backbone.conv1.0.norm.running_mean" in state  # statistics are among what is compared
    assert state.keys() == wanted.keys() and all(torch.equal(state[key], wanted[key]) for key in wanted)
    assert not any(module.training for module in distiller.teacher.modules())
    assert not any(p.requires_grad or p.grad is not None for p in distiller.teacher.parameters())


def test_the_teacher_has_no_dropout_while_the_student_trains(checkpoint):
    distiller = build(checkpoint).train()
    batch = [x["teacher"] for x in make_batch()]
    first, second = distiller.teach(batch), distiller.teach(batch)
    assert torch.equal(first.image_scores, second.image_scores)


def test_state_dict_and_parameters_hold_no_teacher(checkpoint):
    distiller = build(checkpoint)
    assert {key.split(".")[0] for key in distiller.state_dict()} == {"student", "objectives"}
    students = sum(p.numel() for p in distiller.student.parameters()) + 2 * K + 7  # and the temperatures
    assert sum(p.numel() for p in distiller.parameters()) == students


def test_stage_1_moves_convolutions_alone(checkpoint):
    distiller = build(checkpoint, stage=1)
    before = copy.deepcopy(distiller.student.state_dict())
    train(distiller)
    changed = {key for key, value in distiller.student.state_dict().items() if not torch.equal(value, before[key])}
    assert {key.split(".")[0] for key in changed} == {"backbone"}
    assert "backbone.conv1.0.weight" in changed


def test_stage_2_moves_everything_and_the_temperatures(checkpoint):
    distiller = build(checkpoint)
    before = copy.deepcopy(distiller.state_dict())
    train(distiller)
    changed = {key for key, value in distiller.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == set(before)


def test_losses_by_name_in_training_and_the_student_at_test_time(checkpoint):
    distiller, batch = build(checkpoint), make_batch()
    assert set(distiller.train()(batch)) == {"loss_hard", "loss_class_aware"}
    for mine, students in zip(distiller.eval()(batch), distiller.student(batch)):
        assert torch.equal(mine["image_scores"], students["image_scores"])


def test_the_loss_of_a_short_training_falls(checkpoint):
    distiller, batch = build(checkpoint, stage=1), make_batch()
    optimizer = torch.optim.Adam(distiller.student.backbone.parameters(), lr=0.01)
    values = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = distiller.train()(batch)["loss_roi"]
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert values[-1] < 0.7 * values[0]


def test_a_missing_checkpoint_is_an_error(tmp_path):
    for path in ("", str(tmp_path / "none.pth")):
        with pytest.raises(FileNotFoundError, match="distiller.teacher_checkpoint"):
            build(path)


def test_a_checkpoint_that_does_not_fit_names_every_key(checkpoint, tmp_path):
    content = torch.load(checkpoint, weights_only=True)
    del content["model"]["cls_branch.bias"]
    content["model"]["extra"] = torch.zeros(1)
    content["model"]["det_branch.bias"] = torch.zeros(K + 1)
    path = str(tmp_path / "other.pth")
    torch.save(content, path)
    with pytest.raises(TeacherCheckpointError) as error:
        build(path)
    text = str(error.value)
    assert "missing: cls_branch.bias" in text and "unexpected: extra" in text
    assert "shape of det_branch.bias: (4,) in the file, (3,) in the model" in text
