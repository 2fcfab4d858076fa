"""Learning rate and weight decay by kind of parameter, as Caffe's ``lr_mult`` and ``decay_mult``."""

from __future__ import annotations

from collections.abc import Sequence

from detectron2.solver.build import get_default_optimizer_params, reduce_param_groups
from torch import nn


def param_groups(
    model: nn.Module,
    *,
    base_lr: float,
    new_layers: Sequence[str] = (),
    new_lr_factor: float = 1.0,
    bias_lr_factor: float = 1.0,
    weight_decay_bias: float | None = None,
    weight_decay_norm: float | None = None,
    temperature_lr: float | None = None,
) -> list[dict]:
    """Build an optimizer's groups of the trained parameters of ``model``.

    Args:
        base_lr: learning rate of the optimizer.
        new_layers: modules without pretrained weights, by any part of their dotted name ("classifier").
        new_lr_factor: learning rate factor of their parameters.
        bias_lr_factor: learning rate factor of biases; both factors apply to the bias of a new layer.
        weight_decay_bias: weight decay of biases; None: the optimizer's.
        weight_decay_norm: weight decay of normalization layers; None: the optimizer's.
        temperature_lr: learning rate of modules named ``temperatures``, whose parameters are logarithms and are not
            decayed; None: ``base_lr``, at which they hardly move when it suits pretrained weights.

    Raises:
        ValueError: ``model`` has none of ``new_layers``, but a factor for them.
    """
    groups = get_default_optimizer_params(
        model,
        base_lr=base_lr,
        bias_lr_factor=bias_lr_factor,
        weight_decay_bias=weight_decay_bias,
        weight_decay_norm=weight_decay_norm,
    )
    named = [(name.split("."), parameter) for name, parameter in model.named_parameters()]
    if new_lr_factor != 1 and not any(set(path) & set(new_layers) for path, _ in named):
        raise ValueError(f"{type(model).__name__} has none of the new layers {list(new_layers)}")
    for path, parameter in named:  # a later group of a parameter overwrites the settings of the first one
        if not parameter.requires_grad:
            continue
        if set(path) & set(new_layers):
            factor = bias_lr_factor if path[-1] == "bias" else 1.0
            groups.append({"params": [parameter], "lr": base_lr * factor * new_lr_factor})
        if "temperatures" in path:
            lr = base_lr if temperature_lr is None else temperature_lr
            groups.append({"params": [parameter], "lr": lr, "weight_decay": 0.0})
    return reduce_param_groups(groups)
