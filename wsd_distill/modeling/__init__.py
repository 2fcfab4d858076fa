"""T-WDet and S-Cls; importing this module registers both in Detectron2's META_ARCH_REGISTRY."""

from .backbones.resnet import make_res5, make_stages
from .backbones.small import SmallConvNet
from .backbones.timm import TimmBackbone, TimmHead, maps_up_to
from .backbones.vgg import VGG16
from .checkpoints import pretrained  # noqa: F401  (registers pretrained:// in Detectron2's PathManager)
from .classifier import MultiLabelClassifier
from .heads import FCHead, GlobalPoolHead, StageHead
from .normalization import CAFFE_BGR, IMAGENET_RGB, INCEPTION_RGB, NormalizedImageModel
from .wsddn import WSDDN, WSDDNOutput

__all__ = [
    "CAFFE_BGR",
    "IMAGENET_RGB",
    "INCEPTION_RGB",
    "VGG16",
    "WSDDN",
    "FCHead",
    "GlobalPoolHead",
    "MultiLabelClassifier",
    "NormalizedImageModel",
    "SmallConvNet",
    "StageHead",
    "TimmBackbone",
    "TimmHead",
    "WSDDNOutput",
    "make_res5",
    "make_stages",
    "maps_up_to",
]
