"""The training loop, and that images give the same gradient in whatever portions they come."""

import itertools
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.builders import K, OneWeight, make_batch, make_pair, make_student, make_teacher
from helpers.running import run_two_ranks
from torch import nn

from wsd_distill.distillation import ClassAware, Distiller, DistillTrainer, HardLabels, Objectives, RoIAwareTransfer
from wsd_distill.engine import Trainer, create_ddp_model, exit_gloo_worker

KINDS = ["teacher", "distiller", "stage1"]


def build(kind, folder):
    """A model without BatchNorm and dropout, the same at every call."""
    torch.manual_seed(0)
    if kind == "teacher":
        return make_teacher()
    path = Path(folder) / f"teacher{os.getpid()}.pth"
    torch.save(make_teacher().state_dict(), path)
    objectives = {"loss_roi": RoIAwareTransfer(layers=[make_pair()], pooler_size=3, num_proposals=3)}
    if kind == "distiller":
        objectives["loss_hard"] = HardLabels()
        objectives["loss_class_aware"] = ClassAware(num_classes=K, num_proposals=7)
    return Distiller(
        student=make_student(),
        teacher=make_teacher(),
        teacher_checkpoint=str(path),
        objectives=Objectives(**objectives),
        frozen=["head", "classifier"] if kind == "stage1" else [],
    )


def batch_for(kind):
    batch = make_batch(4)
    return [x["teacher"] for x in batch] if kind == "teacher" else batch


def gradients(kind, folder, micro_batches, wrap=lambda model: model):
    """Gradients of one step whose micro-batches are given, by name of the parameter."""
    model = build(kind, folder)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    trainer = Trainer(wrap(model), micro_batches, optimizer, accumulate=len(micro_batches))
    trainer.train(0, 1)
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}


def assert_same(ours, theirs):
    assert ours.keys() == theirs.keys() and any(g.abs().max() > 1e-3 for g in ours.values())
    for name, gradient in ours.items():
        torch.testing.assert_close(
            gradient, theirs[name], rtol=1e-4, atol=1e-6, msg=lambda m, name=name: f"{name}: {m}"
        )


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_of_four_is_four_accumulated_batches_of_one(kind, tmp_path):
    batch = batch_for(kind)
    assert_same(gradients(kind, tmp_path, [batch]), gradients(kind, tmp_path, [[x] for x in batch]))


def test_accumulating_steps_once_for_all_micro_batches(tmp_path):
    """Weights after two steps of batches of four; a step at any micro-batch would move the gradients of the next."""
    batch, weights = batch_for("teacher"), []
    for portions in ([batch], [[x] for x in batch]):
        model = build("teacher", tmp_path)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
        Trainer(model, portions * 2, optimizer, accumulate=len(portions)).train(0, 2)
        weights.append(dict(model.named_parameters()))
    assert (weights[0]["backbone.conv1.0.weight"] - next(build("teacher", tmp_path).parameters())).abs().max() > 1e-3
    for name, weight in weights[0].items():
        torch.testing.assert_close(weight, weights[1][name], rtol=1e-4, atol=1e-5)


def test_a_batch_of_four_is_two_ranks_of_two(tmp_path):
    """Two real processes over gloo, each of them this file run as a program; once accumulating on top."""
    run_two_ranks(__file__, tmp_path)
    for kind in KINDS:
        expected = gradients(kind, tmp_path, [batch_for(kind)])
        for case in ("plain", "accumulated"):
            for rank in (0, 1):
                assert_same(torch.load(tmp_path / f"{kind}-{case}-{rank}.pt", weights_only=True), expected)
    for rank in (0, 1):  # the loss of rank 1 alone was no number: both stopped, with their weights as they were
        assert (tmp_path / f"poisoned-{rank}.txt").read_text() == "loss_bad became [nan]; weight 1.0"


def rank_main(folder: str, rank: int) -> None:
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    for kind in KINDS:
        mine = batch_for(kind)[2 * rank : 2 * rank + 2]
        for case, portions in {"plain": [mine], "accumulated": [[x] for x in mine]}.items():
            torch.save(gradients(kind, folder, portions, create_ddp_model), f"{folder}/{kind}-{case}-{rank}.pt")
    model = OneWeight(poisoned)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    try:
        Trainer(create_ddp_model(model), [[rank]], optimizer).train(0, 1)
    except FloatingPointError as error:
        text = f"{str(error).split(' at ')[0]}; weight {model.weight.item()}"
        Path(folder, f"poisoned-{rank}.txt").write_text(text)
    exit_gloo_worker()


def poisoned(weight, batch):
    """A loss that is no number where the batch is [1]."""
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
    assert model.weight.item() == pytest.approx(0.5)  # a gradient of 7 cut to 0.5
    latest = {name: value for name, (value, _) in trainer.storage.latest().items()}
    assert (latest["loss_a"], latest["loss_b"], latest["total_loss"]) == (3, 4, 7)


class Wrapped(nn.Module):
    """As DistributedDataParallel holds a model."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, batch):
        return self.module(batch)


def test_several_processes_name_the_parameters_that_no_loss_reaches():
    message = (
        "no loss depends on student.deep.0.weight, student.deep.0.bias, but several processes share the gradients of "
        "all parameters: add to distiller.frozen deep.0$"
    )
    model = OneWeight(linear)
    model.student = nn.ModuleDict({"deep": nn.Sequential(nn.Linear(2, 2)), "head": nn.Linear(2, 2)})
    model.student["head"].requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    with pytest.raises(RuntimeError, match=message):
        Trainer(Wrapped(model), [[]], optimizer).train(0, 1)
    assert model.weight.item() == 1  # no step was made with gradients of one process
    Trainer(model, [[]], optimizer).train(0, 1)  # alone, a process needs no other's gradients
    assert model.weight.item() == -6
    model.student.requires_grad_(False)
    Trainer(Wrapped(model), [[]], optimizer).train(0, 1)


def noisy(weight, batch):
    """A loss with dropout (PyTorch's random numbers) of the mean of a batch."""
    return {"loss": (nn.functional.dropout(weight.expand(4), 0.5) * torch.tensor(batch).mean()).sum()}


def augmented():
    """Endless batches that depend on NumPy's random numbers, as the mapper's do."""
    while True:
        time.sleep(0.002)
        yield np.random.rand(3)


def seeded(run):
    torch.manual_seed(3)
    np.random.seed(3)
    return run(OneWeight(noisy))


def test_a_seeded_run_is_that_of_a_loop_that_reads_nothing_ahead():
    def plain(model):
        losses, optimizer = [], torch.optim.SGD(model.parameters(), lr=0.1)
        for batch in itertools.islice(augmented(), 20):
            optimizer.zero_grad()
            losses.append(model(batch)["loss"])
            losses[-1].backward()
            optimizer.step()
        return [loss.item() for loss in losses]

    def ours(model):
        trainer = Trainer(model, augmented(), torch.optim.SGD(model.parameters(), lr=0.1))
        trainer.train(0, 20)
        return [value for value, _ in trainer.storage.history("loss").values()]

    expected = seeded(plain)
    assert len(set(expected)) == 20
    assert seeded(ours) == seeded(ours) == expected


def test_training_on_takes_the_batch_that_was_read_and_a_new_loader_its_first():
    seen = []

    def keep(weight, batch):
        seen.append(batch)
        return linear(weight, batch)

    model = OneWeight(keep)
    trainer = Trainer(model, itertools.count(), torch.optim.SGD(model.parameters(), lr=0.0))
    trainer.train(0, 2)
    trainer.train(2, 4)
    trainer.data_loader = itertools.count(100)
    trainer.train(4, 6)
    assert seen == [0, 1, 2, 3, 100, 101]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_nothing_is_read_any_more_after_an_error(error):
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


def test_distill_trainer_asks_the_gate_first_and_keeps_the_temperatures(tmp_path):
    asked = []

    def trainer(batches):
        distiller = build("distiller", tmp_path)
        optimizer = torch.optim.SGD(distiller.parameters(), lr=0.1, momentum=0.9)
        return DistillTrainer(distiller, batches, optimizer, teacher_check=asked.append)

    first = trainer([batch_for("distiller")] * 3)
    first.train(0, 3)
    assert asked == [first.unwrapped_model.teacher]
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


def test_a_poor_teacher_stops_before_the_first_step(tmp_path):
    def refuse(teacher):
        raise RuntimeError("poor")

    distiller = build("distiller", tmp_path)
    optimizer = torch.optim.SGD(distiller.parameters(), lr=0.1)
    before = [p.clone() for p in distiller.parameters()]
    with pytest.raises(RuntimeError, match="poor"):
        DistillTrainer(distiller, [batch_for("distiller")], optimizer, teacher_check=refuse).train(0, 1)
    assert all(torch.equal(a, b) for a, b in zip(before, distiller.parameters()))


if __name__ == "__main__":
    rank_main(sys.argv[1], int(sys.argv[2]))
