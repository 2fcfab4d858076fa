"""Training loop and the pieces that a LazyConfig tool needs around Detectron2's own."""

from .batch import micro_batch, scale_to_batch
from .checkpoints import TidyCheckpointer
from .launch import launch, leave_gloo, place, share_buffers, wrap_for_ranks
from .overrides import apply_overrides
from .param_groups import param_groups
from .plateau import LowerOnPlateau
from .trainer import Trainer

__all__ = [
    "LowerOnPlateau",
    "TidyCheckpointer",
    "Trainer",
    "apply_overrides",
    "launch",
    "leave_gloo",
    "micro_batch",
    "param_groups",
    "place",
    "scale_to_batch",
    "share_buffers",
    "wrap_for_ranks",
]
