"""T-WDet's knowledge into S-Cls: the Distiller, what it minimises, and its trainer."""

from .distill_trainer import DistillTrainer
from .distiller import Distiller, freeze
from .objectives import (
    AttentionTransfer,
    ClassAware,
    FitNetsHint,
    HardLabels,
    LayerPair,
    Objective,
    Objectives,
    RoIAwareTransfer,
    SoftLabels,
    StudentOutput,
    Temperatures,
)
from .teacher_cache import StaleCacheError, TeacherCache, default_cache_dir
from .teacher_check import TeacherCheck, WeakTeacherError

__all__ = [
    "AttentionTransfer",
    "ClassAware",
    "DistillTrainer",
    "Distiller",
    "HardLabels",
    "FitNetsHint",
    "SoftLabels",
    "LayerPair",
    "Objective",
    "Objectives",
    "WeakTeacherError",
    "RoIAwareTransfer",
    "StaleCacheError",
    "StudentOutput",
    "TeacherCache",
    "TeacherCheck",
    "Temperatures",
    "default_cache_dir",
    "freeze",
]
