"""Training loop and the pieces that a LazyConfig tool needs around Detectron2's own."""

from .launch import launch, wrap_for_ranks
from .overrides import apply_overrides
from .param_groups import param_groups
from .trainer import Trainer

__all__ = ["Trainer", "apply_overrides", "launch", "param_groups", "wrap_for_ranks"]
