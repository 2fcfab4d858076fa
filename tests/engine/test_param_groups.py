import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from helpers.builders import make_student, make_teacher

from wsd_distill.engine import param_groups


def by_name(model, optimizer):
    names = {id(p): name for name, p in model.named_parameters()}
    return {names[id(p)]: (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}


def sgd(model, **options):
    groups = param_groups(model, base_lr=0.001, **options)
    return torch.optim.SGD(groups, lr=0.001, weight_decay=0.0005)


def test_the_released_factors():
    """New layers x10, their biases x20, other biases x2, no bias decays."""
    model = make_teacher()
    options = {"new_layers": ["cls_branch", "det_branch"], "new_lr_factor": 10, "bias_lr_factor": 2}
    found = by_name(model, sgd(model, weight_decay_bias=0.0, **options))
    assert found.keys() == dict(model.named_parameters()).keys()
    assert found["backbone.conv1.0.weight"] == found["head.fc6.weight"] == (0.001, 0.0005)
    assert found["backbone.conv1.0.bias"] == found["head.fc6.bias"] == (0.002, 0)
    assert found["cls_branch.weight"] == found["det_branch.weight"] == (pytest.approx(0.01), 0.0005)
    assert found["cls_branch.bias"] == found["det_branch.bias"] == (pytest.approx(0.02), 0)


def test_without_factors_there_is_one_group():
    assert len(sgd(make_student()).param_groups) == 1


def test_frozen_parameters_are_left_out():
    model = make_student()
    model.backbone.conv1.requires_grad_(False)
    assert not any(name.startswith("backbone.conv1") for name in by_name(model, sgd(model)))


def test_new_layers_that_the_model_does_not_have():
    with pytest.raises(ValueError, match="MultiLabelClassifier has none of the new layers .'cls_branch'"):
        sgd(make_student(), new_layers=["cls_branch"])


def test_the_config_follows_the_learning_rate():
    cfg = LazyConfig.load_rel("../../configs/common/train.py").sgd
    cfg.lr, cfg.params.new_lr_factor, cfg.params.bias_lr_factor, cfg.params.weight_decay_bias = 0.01, 10, 2, 0.0
    for model, layer in ((make_teacher(), "det_branch"), (make_student(), "classifier")):
        cfg.params.model = model
        found = by_name(model, instantiate(cfg))
        assert found["backbone.conv1.0.weight"] == (0.01, 0.0005)
        assert found[f"{layer}.weight"] == (pytest.approx(0.1), 0.0005)
        assert found[f"{layer}.bias"] == (pytest.approx(0.2), 0)
