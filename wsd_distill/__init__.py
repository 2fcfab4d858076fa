"""Multi-label image classification by knowledge distillation from weakly-supervised detection, on Detectron2."""

from typing import Any

from . import compat

compat.install()

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import :class:`.tagging.Tagger` when it is first used."""
    if name == "Tagger":
        from .tagging import Tagger

        return Tagger
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
