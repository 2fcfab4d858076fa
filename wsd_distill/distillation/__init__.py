"""Distillation from T-WDet into S-Cls: Distiller, objectives and trainer."""

from .distill_trainer import DistillTrainer
from .distiller import Distiller
from .objectives.features import AttentionTransfer, FeatureDistillation, FitNetsHint, LayerPair, RoIAwareTransfer
from .objectives.l2d import LabelWiseEmbeddings, MultiLabelLogits
from .objectives.objective import Objective, Objectives, StudentOutput
from .objectives.predictions import ClassAware, HardLabels, SoftLabels, Temperatures
from .objectives.regions import RegionConsistent
from .row_file import DamagedCacheError, DiskFullError
from .teacher_cache import StaleCacheError, TeacherCache, default_cache_dir
from .teacher_check import TeacherCheck, WeakTeacherError

__all__ = [
    "AttentionTransfer",
    "ClassAware",
    "DamagedCacheError",
    "DiskFullError",
    "DistillTrainer",
    "Distiller",
    "FeatureDistillation",
    "FitNetsHint",
    "HardLabels",
    "LabelWiseEmbeddings",
    "LayerPair",
    "MultiLabelLogits",
    "Objective",
    "Objectives",
    "RegionConsistent",
    "RoIAwareTransfer",
    "SoftLabels",
    "StaleCacheError",
    "StudentOutput",
    "TeacherCache",
    "TeacherCheck",
    "Temperatures",
    "WeakTeacherError",
    "default_cache_dir",
]
