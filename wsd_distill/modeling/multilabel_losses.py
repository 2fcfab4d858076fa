"""Losses of S-Cls by name: the paper's cross-entropy, and the multi-label losses of timm."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import timm
import timm.loss
import torch
from torch import Tensor, nn

from wsd_distill.losses import hard_label_loss

Loss = Callable[[Tensor, Tensor], Tensor]

_ABSENT = -1e4  # a negative's logit whose exponential is 0 in every log-sum-exp; finite, unlike timm's empty rows need


class ElementwiseLoss:
    """A loss of timm with one term per image and class, normalized like ``hard_label_loss``.

    Args:
        loss: (N, K) logits and labels -> (N, K) terms (``reduction="none"``).
    """

    def __init__(self, loss: nn.Module):
        self.loss = loss

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Compute the loss, summed over classes and averaged over images, in float32.

        Args:
            logits: (N, K) m.
            labels: (N, K) in [0, 1], -1 = unknown: no value and no gradient.
        """
        known = labels >= 0
        terms = self.loss(torch.where(known, logits.float(), 0.0), labels.clamp(min=0))
        return torch.where(known, terms, 0.0).sum() / len(logits)


class RankingLoss:
    """A loss of timm that compares the logits of positives and negatives by log-sum-exp.

    Args:
        loss: (N, K) logits and labels -> scalar, a mean over images.
    """

    def __init__(self, loss: nn.Module):
        self.loss = loss

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Compute the loss in float32; unknown entries take no part in any comparison.

        Args:
            logits: (N, K) m.
            labels: (N, K), 1 = positive, 0 = negative, -1 = unknown.

        Raises:
            ValueError: a label is between 0 and 1.
        """
        soft = labels[(labels > 0) & (labels < 1)]
        if len(soft):
            self.refuse_soft_labels(f"a label is {soft[0].item():.3g}")
        return self.loss(torch.where(labels >= 0, logits.float(), _ABSENT), labels)

    def refuse_soft_labels(self, reason: str) -> NoReturn:
        """Raise ValueError: a label is, or would be, between 0 and 1 for this ``reason``."""
        raise ValueError(
            f"{reason}, and {type(self.loss).__name__} takes 0, 1 and -1 only: set dataloader.train.mix=null (or "
            "mosaic alone), or model.loss to cross_entropy, asymmetric or poly"
        )


_TIMM: dict[str, tuple[str, type[ElementwiseLoss] | type[RankingLoss]]] = {
    "asymmetric": ("AsymmetricLossMultiLabel", ElementwiseLoss),
    "poly": ("PolyBinaryCrossEntropy", ElementwiseLoss),
    "two_way": ("TwoWayLoss", RankingLoss),
    "zlpr": ("ZlprLoss", RankingLoss),
}
LOSSES = ("cross_entropy", *_TIMM)


def build_loss(loss: str | Loss, options: Mapping[str, Any] | None = None) -> Loss:
    """Build a loss of (N, K) logits and labels by its name; a function is returned as it is.

    - "cross_entropy": Eq. 10.
    - "asymmetric": ASL (Ridnik et al., ICCV 2021), options ``gamma_neg``, ``gamma_pos``, ``clip``, ``smoothing``, ...
    - "poly": Poly-1 (Leng et al., ICLR 2022), options ``epsilon``, ``gamma``, ``alpha``, ``smoothing``.
    - "two_way": two-way loss (Kobayashi, CVPR 2023), options ``tp``, ``tn``. It also compares the images of a
      micro-batch with each other, so that it depends on ``trainer.accumulate`` and on the number of GPUs.
    - "zlpr": ZLPR (Su et al. 2022).

    The first three sum over classes and average over images. The last two average over images and, for the second part
    of "two_way", over classes, as they are published; their logits are not calibrated.

    Args:
        loss: name, or a function of (N, K) logits and (N, K) labels in [0, 1], -1 = unknown, that returns a scalar.
        options: parameters of timm's class; none for "cross_entropy", "zlpr" and a function.

    Raises:
        ValueError: unknown name, unknown option, a value that timm does not accept, or timm is too old.
    """
    if callable(loss):
        if options:
            raise ValueError(f"model.loss_options={dict(options)}: they are for a loss by name, and loss is a function")
        return loss
    if loss not in LOSSES:
        raise ValueError(f"model.loss={loss!r}: choose from {', '.join(LOSSES)}")
    class_name, wrapper = _TIMM.get(loss, ("", None))
    cls = _find_class(class_name, wrapper is ElementwiseLoss) if wrapper else None
    options, parameters = dict(options or {}), _option_names(cls) if cls else []
    invalid = [key for key in options if key not in parameters]
    if invalid:
        raise ValueError(
            f"model.loss_options has {invalid[0]!r}, and {loss} takes {', '.join(parameters) or 'no options'}"
        )
    if cls is None or wrapper is None:
        return hard_label_loss
    try:
        return wrapper(cls(**options, **({"reduction": "none"} if wrapper is ElementwiseLoss else {})))
    except (AssertionError, TypeError) as error:
        raise ValueError(f"model.loss_options={options}: timm's {class_name} does not accept these values") from error


def _option_names(cls: type[nn.Module]) -> list[str]:
    parameters = inspect.signature(cls).parameters.values()
    named = [x.name for x in parameters if x.kind not in (x.VAR_POSITIONAL, x.VAR_KEYWORD)]
    return [name for name in named if name not in ("reduction", "weight")]


def _find_class(name: str, has_reduction: bool) -> type[nn.Module]:
    """Return a class of ``timm.loss``; raise ValueError if the installed timm lacks it or its ``reduction``."""
    cls = getattr(timm.loss, name, None)
    if cls is None or (has_reduction and "reduction" not in inspect.signature(cls).parameters):
        text = f"timm {timm.__version__} has no {name} with the options needed"
        raise ValueError(f"{text}: install timm 1.0.31 or newer, or set model.loss=cross_entropy")
    return cls
