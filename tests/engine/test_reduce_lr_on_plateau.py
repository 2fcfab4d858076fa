"""The learning rate follows a given sequence of validation losses."""

import math

import pytest
import torch
from detectron2.utils import comm
from torch import nn

from wsd_distill.engine import ReduceLROnPlateauHook, Trainer

LOSSES = [1.0, 0.5, 0.6, 0.5, 0.5, 0.49, 0.7, 0.7, 0.7, 0.7]
# With patience 1: 0.5 is the best loss; 0.6 and the equal 0.5 are not better, so the rate falls after the fourth. Then
# 0.5 is not better, 0.49 is; the rate falls at the second 0.7 and at the second one after it.
RATES = [1, 1, 1, 0.1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.001]


class GivenLosses(nn.Module):
    """Predict, at each validation, the probability whose cross-entropy with label 1 is the next of ``losses``."""

    def __init__(self, losses):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.losses = list(losses)

    def forward(self, batch):
        if self.training:
            return {"loss": 0 * self.weight.sum()}
        p = torch.tensor([math.exp(-self.losses.pop(0))])
        return [{"image_scores": p} for _ in batch]


def make_trainer(losses, **options):
    model = GivenLosses(losses)
    groups = [{"params": [model.weight]}, {"params": [nn.Parameter(torch.ones(1))], "lr": 20.0}]
    trainer = Trainer(model, [[]] * 100, torch.optim.SGD(groups, lr=1.0))
    hook = ReduceLROnPlateauHook([[{"labels": torch.ones(1)}] * 3], **{"period": 1, **options})
    trainer.register_hooks([hook])
    return trainer


def run(trainer, start, stop):
    """Return the learning rate of the first group after each iteration."""
    rates = []
    after_step = trainer.after_step
    trainer.after_step = lambda: (after_step(), rates.append(trainer.optimizer.param_groups[0]["lr"]))
    trainer.train(start, stop)
    return rates


def test_a_tenth_at_each_plateau():
    trainer = make_trainer(LOSSES)
    assert run(trainer, 0, 10) == pytest.approx(RATES)
    assert trainer.optimizer.param_groups[1]["lr"] == pytest.approx(20 * RATES[-1])
    history = trainer.storage.history("val_loss").values()
    assert [value for value, _ in history] == pytest.approx(LOSSES, rel=1e-5)
    assert trainer.storage.latest()["lr"][0] == pytest.approx(0.01)  # of the last step, before its validation
    assert trainer.model.training


@pytest.mark.parametrize("stop", range(1, 10))
def test_resumed_in_the_middle(stop):
    first = make_trainer(LOSSES)
    rates = run(first, 0, stop)
    second = make_trainer(LOSSES[stop:])
    second.load_state_dict(first.state_dict())
    assert rates + run(second, stop, 10) == pytest.approx(RATES)


def test_resumed_with_more_patience():
    first = make_trainer(LOSSES)
    run(first, 0, 3)
    second = make_trainer(LOSSES[3:], patience=2)
    second.load_state_dict(first.state_dict())
    assert run(second, 3, 5) == pytest.approx([1, 0.1])


def test_validation_at_each_period_only():
    trainer = make_trainer(LOSSES, period=3)
    assert run(trainer, 0, 13) == pytest.approx([1] * 11 + [0.1] * 2)
    assert len(trainer.model.losses) == len(LOSSES) - 4


def test_a_period_of_zero_is_an_error():
    with pytest.raises(ValueError, match="lr_multiplier.period is 0: set it to the iterations of an epoch"):
        ReduceLROnPlateauHook([], period=0)


def test_the_loss_is_the_mean_over_images_of_all_ranks(monkeypatch):
    """This rank has three images with loss 1, another rank has one image with loss 5."""
    trainer = make_trainer([1.0])
    monkeypatch.setattr(comm, "all_gather", lambda mine: [mine, (5.0, 1)] if isinstance(mine, tuple) else [mine])
    run(trainer, 0, 1)
    assert trainer.storage.latest()["val_loss"][0] == pytest.approx((3 * 1 + 5) / 4)
