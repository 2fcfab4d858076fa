"""Weights of others in this project's names, with the pixels that they expect."""

from .caffemodel import read_caffemodel
from .converters import (
    FORMATS,
    from_caffe_vgg16,
    from_timm,
    from_torchvision_resnet,
    from_torchvision_vgg16,
    read_weights,
)
from .load import CheckpointError, load_weights

__all__ = [
    "FORMATS",
    "CheckpointError",
    "from_caffe_vgg16",
    "from_timm",
    "from_torchvision_resnet",
    "from_torchvision_vgg16",
    "load_weights",
    "read_caffemodel",
    "read_weights",
]
