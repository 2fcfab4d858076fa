"""Learning rate and weight decay by kind of parameter, as Caffe's ``lr_mult`` and ``decay_mult``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from detectron2.solver.build import reduce_param_groups
from torch import nn


def param_groups(
    model: nn.Module,
    *,
    base_lr: float,
    new_layers: Sequence[str] = (),
    new_lr_factor: float = 1.0,
    bias_lr_factor: float = 1.0,
    weight_decay_bias: float | None = None,
) -> list[dict]:
    """Build an optimizer's groups of the trained parameters of ``model``.

    Args:
        base_lr: learning rate of the optimizer.
        new_layers: modules without pretrained weights, by any part of their dotted name ("classifier").
        new_lr_factor: learning rate factor of their parameters.
        bias_lr_factor: learning rate factor of biases; both factors apply to the bias of a new layer.
        weight_decay_bias: weight decay of biases; None: the optimizer's.

    Raises:
        ValueError: ``model`` has none of ``new_layers``.
    """
    named = [(name.split("."), parameter) for name, parameter in model.named_parameters()]
    if new_layers and not any(set(path) & set(new_layers) for path, _ in named):
        raise ValueError(f"{type(model).__name__} has none of the new layers {list(new_layers)}")
    groups = []
    for path, parameter in named:
        if not parameter.requires_grad:
            continue
        group: dict[str, Any] = {"params": [parameter], "lr": base_lr}
        if set(path) & set(new_layers):
            group["lr"] *= new_lr_factor
        if path[-1] == "bias":
            group["lr"] *= bias_lr_factor
            if weight_decay_bias is not None:
                group["weight_decay"] = weight_decay_bias
        groups.append(group)
    return reduce_param_groups(groups)
