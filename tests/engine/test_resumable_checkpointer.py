import itertools

import pytest
import torch
from helpers.builders import OneWeight

from wsd_distill.engine import ResumableCheckpointer, Trainer
from wsd_distill.engine.checkpointer import Checkpointer


@pytest.fixture
def train(tmp_path):
    """A function: train from one iteration to another, a checkpoint at each -> names of all files in the folder."""

    def run(start, stop, **options):
        model = OneWeight(lambda weight, batch: {"loss": weight})
        trainer = Trainer(model, [[]] * 20, torch.optim.SGD(model.parameters(), lr=0.1))
        checkpointer = Checkpointer(model, str(tmp_path), trainer=trainer)
        trainer.register_hooks([ResumableCheckpointer(checkpointer, **{"period": 1, "max_to_keep": 1, **options})])
        trainer.train(start, stop)
        return sorted(path.name for path in tmp_path.iterdir())

    return run


ALWAYS = ["last_checkpoint", "model_final.pth"]


def test_each_resume_keeps_max_to_keep_checkpoints(train):
    assert train(0, 3) == [ALWAYS[0], "model_0000002.pth", ALWAYS[1]]
    assert train(3, 5) == [ALWAYS[0], "model_0000004.pth", ALWAYS[1]]
    assert train(5, 8, max_to_keep=2) == [ALWAYS[0], "model_0000006.pth", "model_0000007.pth", ALWAYS[1]]


def test_surplus_checkpoints_are_removed_before_the_first_step(train, tmp_path):
    for name in ("model_0000001.pth", "model_0000002.pth", "model_0000003.pth"):
        (tmp_path / name).write_text("")
    train(4, 5, period=100)
    assert sorted(path.name for path in tmp_path.glob("model_0*")) == ["model_0000003.pth"]


def test_other_files_are_kept(train, tmp_path):
    """Checkpoints of later iterations, files of a user, and everything in the folder of a run that starts at 0."""
    others = [
        "model_0000009.pth",
        "model_best.pth",
        "model_000001.pth",
        "model_0000001.pth.bak",
        "my_model_0000001.pth",
    ]
    for name in (*others, "model_0000001.pth"):
        (tmp_path / name).write_text("")
    train(0, 1, period=100)
    assert {path.name for path in tmp_path.iterdir()} == {*ALWAYS, *others, "model_0000001.pth"}
    train(2, 4)
    assert {path.name for path in tmp_path.iterdir()} == {*ALWAYS, *others, "model_0000003.pth"}


def test_all_checkpoints_are_kept_without_max_to_keep(train, tmp_path):
    train(0, 2, max_to_keep=None)
    assert train(2, 3, max_to_keep=None)[1:4] == [f"model_000000{i}.pth" for i in range(3)]


@pytest.mark.parametrize(("start", "period", "last"), [(0, 2, "model_0000001.pth"), (2, 9, "old.pth"), (0, 9, None)])
def test_a_diverged_run_names_its_own_last_checkpoint(tmp_path, start, period, last):
    """The folder has the checkpoint of an older run; it counts only if this run was resumed from it."""
    (tmp_path / "last_checkpoint").write_text("old.pth")
    steps = itertools.count(1)  # the loss is NaN from the fourth step on
    model = OneWeight(lambda weight, batch: {"loss": weight * (float("nan") if next(steps) > 3 else 1)})
    trainer = Trainer(model, [[]] * 20, torch.optim.SGD(model.parameters(), lr=0.1))
    checkpointer = Checkpointer(model, str(tmp_path), trainer=trainer)
    trainer.register_hooks([ResumableCheckpointer(checkpointer, period, max_to_keep=1)])
    with pytest.raises(FloatingPointError) as error:
        trainer.train(start, 10)
    what = f"from the last checkpoint .*: train.init_checkpoint={tmp_path}/{last}" if last else "again .*:"
    assert error.match(f"Lower the learning rate and start {what} optimizer.lr=... train.output_dir=")
