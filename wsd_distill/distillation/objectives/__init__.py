"""What the student minimises, one module for each term of the paper and of what it compares with, for a Distiller."""

from .base import Objective, Objectives, StudentView
from .features import AttentionTransfer, Hint, LayerPair, RoIAware
from .predictions import ClassAware, HardLabels, Hinton, Temperatures

__all__ = [
    "AttentionTransfer",
    "ClassAware",
    "HardLabels",
    "Hint",
    "Hinton",
    "LayerPair",
    "Objective",
    "Objectives",
    "RoIAware",
    "StudentView",
    "Temperatures",
]
