"""Loading of checkpoints and conversion of ImageNet weights."""

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
