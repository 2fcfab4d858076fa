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
from .teacher_cache import StaleCacheError, TeacherCache, cache_beside
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
    "StaleCacheError",
    "StudentView",
    "TeacherCache",
    "TeacherGate",
    "Temperatures",
    "cache_beside",
    "freeze",
]
