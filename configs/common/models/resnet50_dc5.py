"""T-WDet and S-Cls on Detectron2's ResNet-50 with a dilated res5 (stride 16), the head being a mean over the map."""

from detectron2.config import LazyCall as L

from wsd_distill.modeling import GlobalPoolHead

from .resnet50_c4 import student, teacher

for _model in (teacher, student):
    _model.backbone.stages.res5_dilation = 2
    _model.backbone.out_features = ["res5"]
    _model.in_feature = "res5"
    _model.head = L(GlobalPoolHead)(channels=2048, mode="avg")
