"""Multi-label image classification by knowledge distillation from weakly-supervised detection, on Detectron2."""

from . import compat

compat.apply()

__version__ = "0.1.0"
