"""Terms of the distillation loss: those of the paper and of the methods it compares with."""

from .features import AttentionTransfer, FitNetsHint, LayerPair, RoIAwareTransfer
from .objective import Objective, Objectives, StudentOutput
from .predictions import ClassAware, HardLabels, SoftLabels, Temperatures

__all__ = [
    "AttentionTransfer",
    "ClassAware",
    "FitNetsHint",
    "HardLabels",
    "LayerPair",
    "Objective",
    "Objectives",
    "RoIAwareTransfer",
    "SoftLabels",
    "StudentOutput",
    "Temperatures",
]
