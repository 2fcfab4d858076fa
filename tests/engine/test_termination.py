"""SIGTERM in a training."""

import os
import signal

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from helpers.builders import OneWeight

from wsd_distill.engine import ResumableCheckpointer, Trainer
from wsd_distill.engine.termination import EXIT_CODE, Termination, TerminationHook


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


def make_trainer(folder, termination, at=None, period=100):
    """Return a trainer whose model terminates its own process in iteration ``at``."""

    def losses(weight, batch):
        if batch == [at]:
            terminate()
        return {"loss": weight}

    model = OneWeight(losses)
    trainer = Trainer(model, [[i] for i in range(20)], torch.optim.SGD(model.parameters(), lr=0.125))
    saving = ResumableCheckpointer(DetectionCheckpointer(model, str(folder), trainer=trainer), period, max_to_keep=1)
    trainer.register_hooks([saving, TerminationHook(termination, saving, "--resume")])
    return trainer


@pytest.mark.parametrize("period", [1, 2, 3, 100])
def test_the_step_is_finished_and_saved(tmp_path, period):
    with Termination() as termination, pytest.raises(SystemExit) as ended:
        make_trainer(tmp_path, termination, at=3, period=period).train(0, 10)
    assert ended.value.code == EXIT_CODE == 143
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000003.pth"
    state = torch.load(tmp_path / "model_0000003.pth", weights_only=True)
    assert state["iteration"] == 3 and state["model"]["weight"].item() == 0.5  # after four steps


def test_the_last_step_has_the_final_checkpoint(tmp_path):
    with Termination() as termination, pytest.raises(SystemExit):
        make_trainer(tmp_path, termination, at=9).train(0, 10)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last_checkpoint", "model_final.pth"]


def test_outside_a_training_it_ends_at_once():
    with Termination(), pytest.raises(SystemExit) as ended:
        terminate()
        raise AssertionError
    assert ended.value.code == EXIT_CODE


def test_where_it_is_deferred_the_next_immediate_block_ends():
    reached = []
    with Termination() as termination:
        termination.defer()
        terminate()
        terminate()
        assert termination.requested
        with pytest.raises(SystemExit), termination.immediate():
            reached.append(1)
    assert not reached
    with Termination() as termination:
        termination.defer()
        with pytest.raises(SystemExit), termination.immediate():
            terminate()
        terminate()  # ignored: it is ending already


def test_the_previous_handler_is_restored():
    before = signal.getsignal(signal.SIGTERM)
    with Termination():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before
