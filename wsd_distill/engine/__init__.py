"""Training loop and the pieces that a LazyConfig tool needs around Detectron2's own."""

from .batch import micro_batch, scale_to_batch
from .checkpoints import ResumableCheckpointer
from .distributed import broadcast_buffers, create_ddp_model, exit_gloo_worker, launch, place
from .overrides import apply_overrides
from .param_groups import param_groups
from .plateau import ReduceLROnPlateauHook
from .trainer import Trainer

__all__ = [
    "ReduceLROnPlateauHook",
    "ResumableCheckpointer",
    "Trainer",
    "apply_overrides",
    "launch",
    "exit_gloo_worker",
    "micro_batch",
    "param_groups",
    "place",
    "scale_to_batch",
    "broadcast_buffers",
    "create_ddp_model",
]
