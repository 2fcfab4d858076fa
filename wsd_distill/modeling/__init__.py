"""T-WDet and S-Cls; importing this module puts both into Detectron2's META_ARCH_REGISTRY."""

from .backbone.resnet import make_res5, make_stages
from .backbone.small import SmallConvNet
from .backbone.timm import TimmBackbone, TimmHead
from .backbone.vgg import VGG16
from .classifier import MultiLabelClassifier
from .heads import FCHead, GlobalPoolHead, StageHead
from .pixels import CAFFE_BGR, IMAGENET_RGB, INCEPTION_RGB, ImageModel
from .weights import pretrained  # noqa: F401  (makes pretrained:// known to Detectron2's PathManager)
from .wsddn import WSDDN, WSDDNOutput

__all__ = [
    "CAFFE_BGR",
    "IMAGENET_RGB",
    "INCEPTION_RGB",
    "VGG16",
    "WSDDN",
    "FCHead",
    "GlobalPoolHead",
    "ImageModel",
    "MultiLabelClassifier",
    "SmallConvNet",
    "StageHead",
    "TimmBackbone",
    "TimmHead",
    "WSDDNOutput",
    "make_res5",
    "make_stages",
]
