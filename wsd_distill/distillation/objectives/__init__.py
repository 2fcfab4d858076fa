"""What the student minimises, one module for each term of the paper and of what it compares with, for a Distiller."""

from .features import AttentionTransfer, FitNetsHint, LayerPair, RoIAwareTransfer
from .objective import Objective, Objectives, StudentOutput
from .predictions import ClassAware, HardLabels, SoftLabels, Temperatures

__all__ = [
    "AttentionTransfer",
    "ClassAware",
    "HardLabels",
    "FitNetsHint",
    "SoftLabels",
    "LayerPair",
    "Objective",
    "Objectives",
    "RoIAwareTransfer",
    "StudentOutput",
    "Temperatures",
]
