import pytest
import torch
from torch import nn

from wsd_distill.modeling.freezing import freeze_submodules


def make_model():
    torch.manual_seed(0)
    return nn.ModuleDict({"first": nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Dropout()),
                          "second": nn.BatchNorm2d(2)})  # fmt: skip


def test_frozen_modules_keep_weights_statistics_and_outputs_after_train():
    model, x = make_model(), torch.rand(4, 1, 3, 3)
    freeze_submodules(model, ["first"])
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.train()
    outputs = [model["first"](x) for _ in range(2)]
    assert torch.equal(*outputs)  # no dropout
    assert not any(p.requires_grad for p in model["first"].parameters())
    model["second"](outputs[0])
    changed = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {"second.running_mean", "second.running_var", "second.num_batches_tracked"}


def test_an_unknown_submodule_is_an_error():
    with pytest.raises(
        ValueError, match="train.frozen: the model has no submodule 'head'; it begins with one of first, "
    ):
        freeze_submodules(make_model(), ["head"])
