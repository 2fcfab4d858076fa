from types import SimpleNamespace

import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from helpers.builders import K, make_student, make_teacher

from wsd_distill import losses
from wsd_distill.distillation import ClassAware
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
        sgd(make_student(), new_layers=["cls_branch"], new_lr_factor=10)


def test_the_config_follows_the_learning_rate():
    cfg = LazyConfig.load_rel("../../configs/common/train.py").sgd
    cfg.lr, cfg.params.new_lr_factor, cfg.params.bias_lr_factor, cfg.params.weight_decay_bias = 0.01, 10, 2, 0.0
    for model, layer in ((make_teacher(), "det_branch"), (make_student(), "classifier")):
        cfg.params.model = model
        found = by_name(model, instantiate(cfg))
        assert found["backbone.conv1.0.weight"] == (0.01, 0.0005)
        assert found[f"{layer}.weight"] == (pytest.approx(0.1), 0.0005)
        assert found[f"{layer}.bias"] == (pytest.approx(0.2), 0)


def load_optimizer(name):
    return LazyConfig.load_rel("../../configs/common/train.py")[name]


@pytest.mark.parametrize("name, rate", [("adamw", 0.01), ("sgd", 0.1)])
def test_temperatures_have_their_own_rate_and_no_decay(name, rate):
    cfg = load_optimizer(name)
    cfg.params.model = model = torch.nn.ModuleDict(
        {"student": make_student("BN"), "loss": ClassAware(num_classes=K, num_proposals=7)}
    )
    found = by_name(model, instantiate(cfg))
    temperatures = {key: value for key, value in found.items() if "temperatures" in key}
    assert list(temperatures.values()) == [(rate, 0)] * 3
    assert found["student.backbone.conv1.0.weight"] == (cfg.lr, cfg.weight_decay)
    assert found["student.backbone.conv1.0.norm.weight"] == (cfg.lr, 0 if name == "adamw" else cfg.weight_decay)
    cfg.lr, cfg.params.temperature_lr = 0.5, 0.02
    assert {lr for lr, _ in by_name(model, instantiate(cfg)).values()} == {0.5, 0.02}


def learn_temperatures(cfg, steps, t_cls=0.5, t_det=2.0, t_student=3.0, classes=4, proposals=6):
    """Learn on batches of 16 random images, on which both predictions are equal at the given temperatures."""
    cfg.params.model = torch.nn.ModuleDict({"loss": ClassAware(num_classes=classes, num_proposals=proposals)})
    objective, optimizer = cfg.params.model["loss"], instantiate(cfg)
    for _ in range(steps):
        c, d = 3 * torch.randn(2, 16, proposals, classes)
        best = t_cls * torch.ones(classes), t_det * torch.ones(proposals)
        p = torch.stack([losses.softened_scores(*logits, *best).sum(0) for logits in zip(c, d)])
        optimizer.zero_grad()
        logits, ranks = t_student * torch.logit(p, eps=1e-6), [torch.arange(proposals)] * 16
        student = SimpleNamespace(logits=logits, ranks=ranks, mix_scores=lambda q: q)
        objective(student, SimpleNamespace(cls_logits=c, det_logits=d)).backward()
        optimizer.step()
    t = objective.temperatures
    return torch.cat([t.t_cls / t_cls, t.t_det / t_det, t.t_student / t_student])


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_temperatures_reach_the_optimum_of_a_toy_problem_in_600_steps(name):
    """From 1 to 0.5, 2 and 3, up to 10 %. At 3e-4, the rate of pretrained weights, AdamW reaches 0.93, 1 and 1.17."""
    assert learn_temperatures(load_optimizer(name), 600).log().abs().max() < 0.1
