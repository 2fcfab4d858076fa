"""Training loop, and what tools add to Detectron2's LazyConfigs."""

from .distributed import create_ddp_model, exit_gloo_worker, launch, to_device
from .hooks import ReduceLROnPlateauHook, ResumableCheckpointer
from .lazy_config import apply_overrides, load_config, method_first
from .param_groups import param_groups
from .trainer import Trainer
from .training import micro_batch, resolve_schedule

__all__ = [
    "ReduceLROnPlateauHook",
    "ResumableCheckpointer",
    "Trainer",
    "apply_overrides",
    "create_ddp_model",
    "exit_gloo_worker",
    "launch",
    "load_config",
    "method_first",
    "micro_batch",
    "param_groups",
    "resolve_schedule",
    "to_device",
]
