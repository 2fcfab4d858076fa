"""Learning rates and decays by kind of parameter, as Caffe's ``lr_mult`` and ``decay_mult`` set them."""

from __future__ import annotations

from collections.abc import Sequence

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
    """Groups for an optimizer of the trained parameters of ``model``.

    Args:
        base_lr: the optimizer's own learning rate.
        new_layers: modules that no weights file initialises, by any part of their dotted name ("classifier").
        new_lr_factor: multiplies the learning rate of their parameters.
        bias_lr_factor: multiplies that of biases; a new layer's bias gets both factors.
        weight_decay_bias: decay of biases; None leaves the optimizer's.

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
        group = {"params": [parameter], "lr": base_lr}
        if set(path) & set(new_layers):
            group["lr"] *= new_lr_factor
        if path[-1] == "bias":
            group["lr"] *= bias_lr_factor
            if weight_decay_bias is not None:
                group["weight_decay"] = weight_decay_bias
        groups.append(group)
    return reduce_param_groups(groups)
