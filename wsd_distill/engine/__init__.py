"""Training loop and the pieces that LazyConfigs need around Detectron2's own."""

from .trainer import Trainer

__all__ = ["Trainer"]
