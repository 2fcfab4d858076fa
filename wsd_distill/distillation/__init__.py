"""T-WDet's knowledge into S-Cls: the Distiller, what it minimises, and its trainer."""

from .distiller import Distiller, freeze
from .gate import PoorTeacherError, TeacherGate
from .objectives import (
    AttentionTransfer,
    ClassAware,
    HardLabels,
    Hint,
    Hinton,
    LayerPair,
    Objective,
    Objectives,
    RoIAware,
    StudentView,
    Temperatures,
)
from .trainer import DistillTrainer

__all__ = [
    "AttentionTransfer",
    "ClassAware",
    "DistillTrainer",
    "Distiller",
    "HardLabels",
    "Hint",
    "Hinton",
    "LayerPair",
    "Objective",
    "Objectives",
    "PoorTeacherError",
    "RoIAware",
    "StudentView",
    "TeacherGate",
    "Temperatures",
    "freeze",
]
