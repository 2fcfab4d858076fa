"""T-WDet's knowledge into S-Cls: the Distiller, what it minimises, and its trainer."""

from .distiller import Distiller, TeacherCheckpointError, freeze, load_teacher
from .gate import PoorTeacherError, TeacherGate
from .objectives import ClassAware, HardLabels, LayerPair, Objectives, RoIAware, StudentView, Temperatures
from .trainer import DistillTrainer

__all__ = [
    "ClassAware",
    "DistillTrainer",
    "Distiller",
    "HardLabels",
    "LayerPair",
    "Objectives",
    "PoorTeacherError",
    "RoIAware",
    "StudentView",
    "TeacherCheckpointError",
    "TeacherGate",
    "Temperatures",
    "freeze",
    "load_teacher",
]
