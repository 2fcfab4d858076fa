"""Distillation from T-WDet into S-Cls: Distiller, objectives and trainer."""

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
    "FitNetsHint",
    "HardLabels",
    "LayerPair",
    "Objective",
    "Objectives",
    "RoIAwareTransfer",
    "SoftLabels",
    "StaleCacheError",
    "StudentOutput",
    "TeacherCache",
    "TeacherCheck",
    "Temperatures",
    "WeakTeacherError",
    "default_cache_dir",
    "freeze",
]
