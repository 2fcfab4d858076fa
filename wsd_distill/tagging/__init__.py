"""Runtime of a trained tagger: model folders, and labels of photos with ONNX Runtime or PyTorch."""

from .model_config import ModelConfig
from .tagger import Tagger

__all__ = ["ModelConfig", "Tagger"]
