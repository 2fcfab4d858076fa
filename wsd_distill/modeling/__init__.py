"""T-WDet and S-Cls; importing this module puts both into Detectron2's META_ARCH_REGISTRY."""

from .backbone.small import SmallConvNet
from .classifier import MultiLabelClassifier
from .heads import FCHead, GlobalPoolHead
from .wsddn import WSDDN, WSDDNOutput

__all__ = ["WSDDN", "FCHead", "GlobalPoolHead", "MultiLabelClassifier", "SmallConvNet", "WSDDNOutput"]
