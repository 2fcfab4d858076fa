"""The training loop: gradients do not depend on how a batch is split into micro-batches and ranks."""

import itertools
import os
import sys
import time
from pathlib import Path

import pytest
import torch
from helpers.builders import K, OneWeight, make_batch, make_pair, make_student, make_teacher
from helpers.running import run_two_ranks
from torch import nn

# isort: split
from detectron2.structures import Boxes, Instances

from wsd_distill.class_names import class_names_state
from wsd_distill.distillation import ClassAware, Distiller, DistillTrainer, HardLabels, Objectives, RoIAwareTransfer
from wsd_distill.engine import Trainer, create_ddp_model, exit_gloo_worker
from wsd_distill.modeling.freezing import freeze_submodules

KINDS = ["teacher", "distiller", "stage1"]


def build(kind, folder):
    """Build a model without BatchNorm and dropout, with the same weights at every call."""
    torch.manual_seed(0)
    if kind == "teacher":
        return make_teacher()
    path = Path(folder) / f"teacher{os.getpid()}.pth"
    torch.save(make_teacher().state_dict(), path)
    objectives = {"loss_roi": RoIAwareTransfer(layers=[make_pair()], pooler_size=3, num_proposals=3)}
    if kind == "distiller":
        objectives["loss_hard"] = HardLabels()
        objectives["loss_class_aware"] = ClassAware(num_classes=K, num_proposals=7)
    student = make_student()
    freeze_submodules(student, ["head", "classifier"] if kind == "stage1" else [])
    return Distiller(
        student=student,
        teacher=make_teacher(),
        teacher_checkpoint=str(path),
        objectives=Objectives(**objectives),
    )


def batch_for(kind):
    batch = make_batch(4)
    return [x["teacher"] for x in batch] if kind == "teacher" else batch


def gradients(kind, folder, micro_batches, wrap=lambda model: model):
    """Return the gradients of one step on the given micro-batches, by parameter name."""
    model = build(kind, folder)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    trainer = Trainer(wrap(model), micro_batches, optimizer, accumulate=len(micro_batches))
    trainer.train(0, 1)
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}


def penalized_weights(batch, wrap=lambda model: model):
    """Return the weights after three steps of a teacher with a penalty on the distance to its start."""
    model = build("teacher", "")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = Trainer(wrap(model), [batch] * 3, optimizer, start_penalty=5.0)
    trainer.set_start(model, model.state_dict())
    trainer.train(0, 3)
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def assert_same(ours, theirs):
    assert ours.keys() == theirs.keys() and any(g.abs().max() > 1e-3 for g in ours.values())
    for name, gradient in ours.items():
        torch.testing.assert_close(
            gradient, theirs[name], rtol=1e-4, atol=1e-6, msg=lambda m, name=name: f"{name}: {m}"
        )


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_of_four_equals_four_accumulated_batches_of_one(kind, tmp_path):
    batch = batch_for(kind)
    assert_same(gradients(kind, tmp_path, [batch]), gradients(kind, tmp_path, [[x] for x in batch]))


def test_accumulating_steps_once_for_all_micro_batches(tmp_path):
    """Compare weights after two steps: a step after each micro-batch would change the gradients of the next one."""
    batch, weights = batch_for("teacher"), []
    for micro_batches in ([batch], [[x] for x in batch]):
        model = build("teacher", tmp_path)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
        Trainer(model, micro_batches * 2, optimizer, accumulate=len(micro_batches)).train(0, 2)
        weights.append(dict(model.named_parameters()))
    assert (weights[0]["backbone.conv1.0.weight"] - next(build("teacher", tmp_path).parameters())).abs().max() > 1e-3
    for name, weight in weights[0].items():
        torch.testing.assert_close(weight, weights[1][name], rtol=1e-4, atol=1e-5)


def test_a_batch_of_four_equals_two_ranks_of_two(tmp_path):
    """Two processes over gloo, each runs this file as a program; once with and once without accumulation."""
    run_two_ranks(__file__, tmp_path)
    for kind in KINDS:
        expected = gradients(kind, tmp_path, [batch_for(kind)])
        for case in ("plain", "accumulated"):
            for rank in (0, 1):
                assert_same(torch.load(tmp_path / f"{kind}-{case}-{rank}.pt", weights_only=True), expected)
    for rank in (0, 1):
        found = torch.load(tmp_path / f"penalized-{rank}.pt", weights_only=True)
        assert_same(found, penalized_weights(batch_for("teacher")))
    for rank in (0, 1):  # only the loss of rank 1 was NaN: both stopped with unchanged weights
        assert (tmp_path / f"poisoned-{rank}.txt").read_text() == "loss_bad became [nan]; weight 1.0"


def rank_main(folder: str, rank: int) -> None:
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    for kind in KINDS:
        mine = batch_for(kind)[2 * rank : 2 * rank + 2]
        for case, micro_batches in {"plain": [mine], "accumulated": [[x] for x in mine]}.items():
            torch.save(gradients(kind, folder, micro_batches, create_ddp_model), f"{folder}/{kind}-{case}-{rank}.pt")
    mine = batch_for("teacher")[2 * rank : 2 * rank + 2]
    torch.save(penalized_weights(mine, create_ddp_model), f"{folder}/penalized-{rank}.pt")
    model = OneWeight(poisoned)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    try:
        Trainer(create_ddp_model(model), [[rank]], optimizer).train(0, 1)
    except FloatingPointError as error:
        text = f"{str(error).split(' at ')[0]}; weight {model.weight.item()}"
        Path(folder, f"poisoned-{rank}.txt").write_text(text)
    exit_gloo_worker()


def poisoned(weight, batch):
    """Return a loss that is NaN for the batch [1]."""
    return {"loss_good": weight, "loss_bad": weight * (float("nan") if batch == [1] else 1)}


def test_a_loss_that_is_not_finite_stops_before_the_weights_change():
    model = OneWeight(poisoned)
    trainer = Trainer(model, [[1]], torch.optim.SGD(model.parameters(), lr=1.0))
    with pytest.raises(FloatingPointError, match="loss_bad became .nan. at iteration 0"):
        trainer.train(0, 1)
    assert model.weight.item() == 1


def linear(weight, batch):
    return {"loss_a": 3 * weight, "loss_b": 4 * weight}


def test_losses_are_summed_logged_and_clipped():
    model = OneWeight(linear)
    trainer = Trainer(model, [[], []], torch.optim.SGD(model.parameters(), lr=1.0), clip_norm=0.5)
    trainer.train(0, 1)
    assert model.weight.item() == pytest.approx(0.5)  # a gradient of 7 clipped to 0.5
    latest = {name: value for name, (value, _) in trainer.storage.latest().items()}
    assert (latest["loss_a"], latest["loss_b"], latest["total_loss"]) == (3, 4, 7)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_penalty_on_the_distance_to_the_start(accumulate):
    """By hand: 1 - 0.1 * 7 = 0.3; then the loss is 4 / 2 * 0.7^2, and the gradient 7 - 4 * 0.7."""
    model = OneWeight(linear)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = Trainer(model, itertools.repeat([]), optimizer, accumulate=accumulate, start_penalty=4.0)
    trainer.set_start(model, {"weight": torch.ones(1, dtype=torch.float64), "other": torch.ones(1)})
    trainer.train(0, 2)
    latest = {name: value for name, (value, _) in trainer.storage.latest().items()}
    assert latest["loss_start"] == pytest.approx(2 * 0.7**2)
    assert latest["total_loss"] == pytest.approx(7 * 0.3 + 2 * 0.7**2)
    assert model.weight.item() == pytest.approx(0.3 - 0.1 * (7 - 4 * 0.7))


def train_student(start, stop, pretrained, weights=None, state=None):
    """Train S-Cls with a penalty, from the pretrained weights or resumed; return the trainer."""
    torch.manual_seed(1)
    model = make_student()
    model.load_state_dict(pretrained, strict=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    trainer = Trainer(model, [make_batch(seed=seed) for seed in range(start, stop)], optimizer, start_penalty=0.7)
    trainer.set_start(model, pretrained)
    if weights:
        model.load_state_dict(weights)
        trainer.load_state_dict(state)
    trainer.train(start, stop)
    return trainer


def test_the_penalty_is_of_pretrained_parameters_only_and_the_same_after_a_resume():
    torch.manual_seed(0)
    state = make_student().state_dict()
    pretrained = {name: x for name, x in state.items() if not name.startswith("class")}
    pretrained |= class_names_state([])  # of ImageNet weights
    check_penalty(pretrained, pretrained)


def test_the_random_classifier_of_a_stage_1_has_no_penalty():
    torch.manual_seed(0)
    state = make_student().state_dict()
    check_penalty(state, {name: x for name, x in state.items() if not name.startswith("class")})


def check_penalty(state, pretrained):
    """Train from the weights ``state``: the penalty is of the parameters ``pretrained``, also after a resume."""
    whole, first = train_student(0, 4, state), train_student(0, 2, state)
    second = train_student(2, 4, state, first.model.state_dict(), first.state_dict())
    assert all(map(torch.equal, whole.model.state_dict().values(), second.model.state_dict().values()))
    distance = sum(
        (p - pretrained[name]).square().sum().item() for name, p in first.model.named_parameters() if name in pretrained
    )
    assert first._compute_start_penalty().item() == pytest.approx(0.35 * distance) and distance > 0
    first.model.load_state_dict(state, strict=False)
    convolutions = [name for name, _ in first.model.backbone.named_children()]
    first.set_start(first.model, state, [f"backbone.{name}" for name in convolutions[1:]])
    kept = {id(p) for p in getattr(first.model.backbone, convolutions[0]).parameters()}
    assert {id(p) for p, _ in first._start} == kept and len(convolutions) > 1
    first.model.backbone.requires_grad_(False)
    with pytest.raises(ValueError, match="no trained parameter has a value from train.init_checkpoint: set both, or 0"):
        first.set_start(first.model, state)


class Wrapped(nn.Module):
    """Stand-in for DistributedDataParallel: the model is its ``module``."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, batch):
        return self.module(batch)


def test_unused_parameters_are_an_error_with_several_processes():
    message = (
        "no loss depends on student.deep.0.weight, student.deep.0.bias, but several processes share the gradients of "
        "all parameters: add to train.frozen deep.0$"
    )
    model = OneWeight(linear)
    model.student = nn.ModuleDict({"deep": nn.Sequential(nn.Linear(2, 2)), "head": nn.Linear(2, 2)})
    model.student["head"].requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    with pytest.raises(RuntimeError, match=message):
        Trainer(Wrapped(model), [[]], optimizer).train(0, 1)
    assert model.weight.item() == 1  # no step with the gradients of one process
    Trainer(model, [[]], optimizer).train(0, 1)  # a single process shares no gradients
    assert model.weight.item() == -6
    model.student.requires_grad_(False)
    Trainer(Wrapped(model), [[]], optimizer).train(0, 1)


def noisy(weight, batch):
    """Return the mean of a batch after dropout, which draws PyTorch's random numbers."""
    return {"loss": (nn.functional.dropout(weight.expand(4), 0.5) * torch.tensor(batch).mean()).sum()}


def losses_of(start, stop, seed=3):
    """Train with dropout from one iteration to another; return the losses."""
    torch.manual_seed(int(time.time()))  # must not matter
    model = OneWeight(noisy)
    batches = ([float(i)] for i in itertools.count(start))
    trainer = Trainer(model, batches, torch.optim.SGD(model.parameters(), lr=0.0), seed=seed)
    trainer.train(start, stop)
    return [value for value, _ in trainer.storage.history("loss").values()]


def test_random_numbers_of_a_step_depend_on_seed_and_iteration_only():
    whole = losses_of(0, 20)
    assert losses_of(0, 8) + losses_of(8, 20) == whole
    assert len({loss / (i or 1) for i, loss in enumerate(whole)}) > 2  # dropout does differ between iterations
    assert losses_of(0, 20, seed=4) != whole


def test_micro_batches_draw_different_random_numbers():
    model = OneWeight(lambda weight, batch: {"loss": weight * 0 + torch.rand(())})
    seen = []
    model.register_forward_hook(lambda module, inputs, output: seen.append(output["loss"].item()))
    Trainer(model, [[]] * 6, torch.optim.SGD(model.parameters(), lr=0.0), accumulate=3).train(0, 2)
    assert len(set(seen)) == 6


def test_continued_training_uses_the_prefetched_batch_unless_the_loader_is_new():
    seen = []

    def keep(weight, batch):
        seen.extend(batch)
        return linear(weight, batch)

    model = OneWeight(keep)
    trainer = Trainer(model, ([i] for i in itertools.count()), torch.optim.SGD(model.parameters(), lr=0.0))
    trainer.train(0, 2)
    trainer.train(2, 4)
    trainer.data_loader = ([i] for i in itertools.count(100))
    trainer.train(4, 6)
    assert seen == [0, 1, 2, 3, 100, 101]


def test_inputs_that_are_not_finite_are_named_before_the_step():
    nan = torch.full((3, 2, 2), float("nan"))
    proposals = Instances((2, 2), proposal_boxes=Boxes(torch.zeros(1, 4)), scores=torch.tensor([float("inf")]))
    batches = {
        "a.jpg: its pixels are not finite": {"file_name": "a.jpg", "image": nan},
        "a.jpg: its proposal scores are not finite": {"file_name": "a.jpg", "teacher": {"proposals": proposals}},
    }
    for message, x in batches.items():
        model = OneWeight(linear)
        with pytest.raises(ValueError, match=message):
            Trainer(model, [[x]], torch.optim.SGD(model.parameters(), lr=1.0)).train(0, 1)
        assert model.weight.item() == 1


def test_a_loss_that_is_not_finite_before_the_first_step_names_its_cause():
    model = OneWeight(poisoned)
    with pytest.raises(FloatingPointError, match="at iteration 0, before the first step, .*Check model.pixel_mean"):
        Trainer(model, [[1]], torch.optim.SGD(model.parameters(), lr=1.0)).train(0, 1)
    torch.nn.init.constant_(model.weight, float("nan"))
    with pytest.raises(FloatingPointError, match="weight of the model had values that are not finite before the first"):
        Trainer(model, [[0]], torch.optim.SGD(model.parameters(), lr=1.0)).train(0, 1)


def test_divergence_of_the_teacher_is_reported_as_that_of_the_students():
    batch = batch_for("teacher")
    model = build("teacher", "")
    optimizer = torch.optim.SGD(model.parameters(), lr=1e20)
    with pytest.raises(FloatingPointError, match="loss_image became .nan. at iteration 1. Lower the learning rate and"):
        Trainer(model, [batch] * 3, optimizer).train(0, 3)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_reading_stops_after_an_error(error):
    reading = []

    def loader():
        while True:
            reading.append(1)
            time.sleep(0.05)
            reading.pop()
            yield []

    def fail(weight, batch):
        raise error

    model = OneWeight(fail)
    with pytest.raises(error):
        Trainer(model, loader(), torch.optim.SGD(model.parameters(), lr=0.0)).train(0, 5)
    assert reading == []


def test_amp_without_a_gpu_is_an_error():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ValueError, match="trainer.amp=False"):
        Trainer(OneWeight(linear), [], None, amp=True)


def test_distill_trainer_checks_the_teacher_first_and_saves_the_temperatures(tmp_path):
    checked = []

    def trainer(batches):
        distiller = build("distiller", tmp_path)
        optimizer = torch.optim.SGD(distiller.parameters(), lr=0.1, momentum=0.9)
        return DistillTrainer(distiller, batches, optimizer, teacher_check=checked.append)

    first = trainer([batch_for("distiller")] * 3)
    first.train(0, 3)
    assert checked == [first.unwrapped_model.teacher]
    assert "temperature/t_cls" in first.storage.latest()
    second = trainer([])
    second.load_state_dict(first.state_dict())
    for ours, theirs in zip(
        first.unwrapped_model.objectives.parameters(), second.unwrapped_model.objectives.parameters()
    ):
        assert torch.equal(ours, theirs)
    t = first.unwrapped_model.objectives["loss_class_aware"].temperatures.t_student
    assert (t != 1).all()
    assert second.optimizer.state_dict()["state"].keys() == first.optimizer.state_dict()["state"].keys()


def test_a_weak_teacher_stops_before_the_first_step(tmp_path):
    def fail_check(teacher):
        raise RuntimeError("weak")

    distiller = build("distiller", tmp_path)
    optimizer = torch.optim.SGD(distiller.parameters(), lr=0.1)
    before = [p.clone() for p in distiller.parameters()]
    with pytest.raises(RuntimeError, match="weak"):
        DistillTrainer(distiller, [batch_for("distiller")], optimizer, teacher_check=fail_check).train(0, 1)
    assert all(torch.equal(a, b) for a, b in zip(before, distiller.parameters()))


if __name__ == "__main__":
    rank_main(sys.argv[1], int(sys.argv[2]))
