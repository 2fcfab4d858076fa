"""Modules that are not trained."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn


def freeze(module: nn.Module) -> None:
    """Disable all gradients and set eval mode, dropout and BatchNorm included, which ``train()`` no longer changes."""
    module.requires_grad_(False)
    for child in module.modules():
        child.eval()
        child.register_forward_pre_hook(_set_eval)


def freeze_submodules(model: nn.Module, names: Iterable[str]) -> None:
    """Freeze submodules by their dotted names.

    Raises:
        ValueError: the model has no such submodule.
    """
    for name in names:
        try:
            freeze(model.get_submodule(name))
        except AttributeError as error:
            known = ", ".join(child for child, _ in model.named_children())
            raise ValueError(
                f"train.frozen: the model has no submodule {name!r}; it begins with one of {known}"
            ) from error


def _set_eval(module: nn.Module, inputs: tuple) -> None:
    module.training = False
