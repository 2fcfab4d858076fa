"""The moving average of the weights: its values, who sees it, and resuming it."""

import itertools
import os
import sys

import pytest
import torch
from helpers.builders import CLASSES, K, OneWeight, make_batch, make_pair, make_student, make_teacher
from helpers.running import run_two_ranks
from torch import nn

# isort: split
from wsd_distill.distillation import ClassAware, Distiller, DistillTrainer, HardLabels, Objectives, RoIAwareTransfer
from wsd_distill.engine import ReduceLROnPlateauHook, ResumableCheckpointer, Trainer, create_ddp_model, exit_gloo_worker
from wsd_distill.engine.checkpointer import Checkpointer, CheckpointError


def falling(steps, **options):
    """Train a weight that is 0, -1, -2, ... after each step."""
    model = OneWeight(lambda weight, batch: {"loss": weight})
    trainer = Trainer(model, [[]] * steps, torch.optim.SGD(model.parameters(), lr=1.0), **options)
    trainer.train(0, steps)
    return trainer


def test_average_by_hand():
    trainer = falling(4, ema=0.9, ema_warmup=False)  # 0, then 0.9 * 0 - 0.1, ...
    assert trainer.eval_model.weight.item() == pytest.approx(0.9 * (0.9 * -0.1 - 0.2) - 0.3)
    assert trainer.raw_model.weight.item() == -3
    average, decays = 0.0, [min(0.4, 1 - (1 + s) ** (-2 / 3)) for s in range(4)]  # 0, 0.37, 0.4, 0.4
    for weight, decay in zip([0, -1, -2, -3], decays):
        average = decay * average + (1 - decay) * weight
    assert falling(4, ema=0.4).eval_model.weight.item() == pytest.approx(average)
    assert falling(4).eval_model.weight.item() == -3  # without an average


def test_the_average_begins_with_weights_loaded_after_the_trainer_was_built():
    model = OneWeight(lambda weight, batch: {"loss": 0 * weight})
    trainer = Trainer(model, [[]], torch.optim.SGD(model.parameters(), lr=1.0), ema=0.9)
    nn.init.constant_(model.weight, 5.0)
    trainer.train(0, 1)
    assert trainer.eval_model.weight.item() == 5 and trainer.eval_model is not model


@pytest.mark.parametrize("decay", [0.0, 1.0, -0.5])
def test_a_decay_out_of_range(decay):
    with pytest.raises(ValueError, match=f"trainer.ema is {decay}: set it to a decay above 0 and below 1"):
        falling(1, ema=decay)


def build_trainer(kind, folder, batches, ema=0.7):
    """Build a trainer of T-WDet, S-Cls with BatchNorm, or a Distiller; the same weights at every call."""
    torch.manual_seed(0)
    options = {"ema": ema, "ema_warmup": False}
    if kind != "distiller":
        model = make_teacher() if kind == "teacher" else make_student(norm="BN")
        return Trainer(model, batches, torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9), **options)
    path = f"{folder}/teacher{os.getpid()}.pth"
    torch.save(make_teacher().state_dict(), path)
    objectives = {
        "loss_hard": HardLabels(),
        "loss_class_aware": ClassAware(num_classes=K, num_proposals=7),
        "loss_roi": RoIAwareTransfer(layers=[make_pair()], pooler_size=3, num_proposals=3),
    }
    model = Distiller(
        student=make_student(norm="BN"),
        teacher=make_teacher(),
        teacher_checkpoint=path,
        objectives=Objectives(**objectives),
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    return DistillTrainer(model, batches, optimizer, teacher_check=lambda teacher: None, **options)


def batches_from(start, kind="student"):
    for seed in itertools.count(start):
        batch = make_batch(4, seed)
        yield [x["teacher"] for x in batch] if kind == "teacher" else batch


def checkpointer_of(trainer, folder):
    return Checkpointer(trainer.raw_model, str(folder), saved_model=lambda: trainer.eval_model, trainer=trainer)


def run(kind, folder, start, stop):
    """Train with a checkpoint in the last step, resumed unless ``start`` is 0."""
    folder.mkdir(exist_ok=True)
    trainer = build_trainer(kind, folder, batches_from(start))
    checkpointer = checkpointer_of(trainer, folder)
    checkpointer.resume_or_load("", resume=start > 0)
    trainer.register_hooks([ResumableCheckpointer(checkpointer, period=100)])
    trainer.train(start, stop)
    return trainer, torch.load(folder / "model_final.pth", weights_only=True)


def flatten(node, prefix=""):
    if isinstance(node, (dict, list, tuple)):
        pairs = node.items() if isinstance(node, dict) else enumerate(node)
        return {key: x for name, value in pairs for key, x in flatten(value, f"{prefix}.{name}").items()}
    return {prefix: node}


@pytest.mark.parametrize("kind", ["student", "distiller"])
def test_a_resumed_training_has_the_same_bits(kind, tmp_path):
    _, whole = run(kind, tmp_path / "whole", 0, 6)
    run(kind, tmp_path / "parts", 0, 3)
    _, parts = run(kind, tmp_path / "parts", 3, 6)
    ours, theirs = flatten(parts), flatten(whole)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        same = torch.equal(value, theirs[name]) if isinstance(value, torch.Tensor) else value == theirs[name]
        assert same, name


@pytest.mark.parametrize("kind", ["student", "distiller"])
def test_the_checkpoint_has_the_averages_of_weights_and_batch_norm_statistics(kind, tmp_path):
    trainer = build_trainer(kind, tmp_path, batches_from(0))
    states = []
    after_step = trainer.after_step
    trainer.after_step = lambda: (after_step(), states.append(clone(trainer.raw_model)))
    trainer.train(0, 4)
    expected = states[0]
    for state in states[1:]:
        expected = {k: 0.7 * expected[k] + 0.3 * x if x.is_floating_point() else x for k, x in state.items()}
    checkpointer_of(trainer, tmp_path).save("last")
    content = torch.load(tmp_path / "last.pth", weights_only=True)
    assert content["model"].keys() == make_student(norm="BN").state_dict().keys()
    for name, value in content["model"].items():
        torch.testing.assert_close(value, expected[name], msg=lambda m, name=name: f"{name}: {m}")
    moved = {name for name, value in content["model"].items() if not torch.equal(value, states[-1][name])}
    assert {"backbone.conv1.0.weight", "backbone.conv1.0.norm.running_mean", "classifier.bias"} <= moved
    assert not {name for name in moved if name.startswith(("pixel_", "channel_order", "class_names"))}
    again = make_student(norm="BN", class_names=None)
    again.load_state_dict(content["model"])
    assert again.class_names == CLASSES


def clone(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_training_goes_on_with_the_raw_weights(tmp_path):
    """Gradients, weights and temperatures are those of a training without an average, which is evaluated meanwhile."""
    results = []
    for ema in (None, 0.7):
        trainer = build_trainer("distiller", tmp_path, batches_from(0), ema)
        hook = ReduceLROnPlateauHook([make_batch(4, 99)], period=2, patience=100)
        trainer.register_hooks([hook])
        trainer.train(0, 4)
        results.append((clone(trainer.unwrapped_model), hook.validation_loss()))
    assert results[0][0].keys() == results[1][0].keys()
    assert all(torch.equal(x, results[1][0][name]) for name, x in results[0][0].items())
    assert abs(results[0][1] - results[1][1]) > 1e-4


def test_the_validation_loss_is_that_of_the_averaged_weights(tmp_path):
    trainer = build_trainer("student", tmp_path, batches_from(0))
    hook, batch = ReduceLROnPlateauHook([make_batch(4, 99)], period=100), make_batch(4, 99)
    trainer.register_hooks([hook])
    trainer.train(0, 3)
    labels = torch.stack([x["labels"] for x in batch])
    losses = []
    for model in (trainer.eval_model, trainer.raw_model):
        p = torch.stack([x["image_scores"] for x in model.eval()(batch)])
        losses.append((nn.functional.binary_cross_entropy(p, labels, reduction="sum") / 4).item())
    assert hook.validation_loss() == pytest.approx(losses[0], rel=1e-5) and abs(losses[0] - losses[1]) > 1e-4


@pytest.mark.parametrize("before, after, found", [(0.7, None, "with"), (None, 0.7, "without")])
def test_resuming_with_and_without_an_average_is_an_error(before, after, found, tmp_path):
    trainer = build_trainer("student", tmp_path, batches_from(0), before)
    trainer.train(0, 1)
    checkpointer_of(trainer, tmp_path).save("last")
    other = build_trainer("student", tmp_path, [], after)
    message = f"it was trained {found} an average of the weights, and trainer.ema is {after}"
    with pytest.raises(CheckpointError, match=message):
        checkpointer_of(other, tmp_path).resume_or_load("", resume=True)


def test_two_ranks_have_the_average_of_one(tmp_path):
    """Two processes over gloo, each runs this file as a program."""
    run_two_ranks(__file__, tmp_path)
    trainer = build_trainer("teacher", tmp_path, batches_from(0, "teacher"))
    trainer.train(0, 3)
    for rank in (0, 1):
        found = torch.load(tmp_path / f"average{rank}.pt", weights_only=True)
        for name, value in trainer.eval_model.state_dict().items():
            torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-5)
    assert (trainer.eval_model.det_branch.weight - trainer.raw_model.det_branch.weight).abs().max() > 1e-3


def rank_main(folder, rank):
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    mine = (batch[2 * rank : 2 * rank + 2] for batch in batches_from(0, "teacher"))
    trainer = build_trainer("teacher", folder, mine)
    trainer.model = create_ddp_model(trainer.model)
    trainer.train(0, 3)
    torch.save(trainer.eval_model.state_dict(), f"{folder}/average{rank}.pt")
    exit_gloo_worker()


if __name__ == "__main__":
    rank_main(sys.argv[1], int(sys.argv[2]))
