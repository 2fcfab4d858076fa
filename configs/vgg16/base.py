"""T-WDet and S-Cls on VGG16 with the numbers of Section 3.3, for the weights of Caffe's file.

For torchvision's file set the ``pixel_mean``, ``pixel_std`` and ``image_format`` of ``IMAGENET_RGB``.
"""

from detectron2.config import LazyCall as L

from wsd_distill.modeling import CAFFE_BGR, VGG16, WSDDN, FCHead, MultiLabelClassifier

from ..common.data import dataloader, dataset, detector, image_proposals, proposals
from ..common.train import plateau as lr_multiplier
from ..common.train import sgd as optimizer
from ..common.train import train, trainer

train.update(recipe="vgg16", epochs=30, batch_size=32)
train.pooler_type = "ROIPool"  # of T-WDet and of stage 1
train.init_checkpoint = "output/vgg16_caffe.pth"  # written by tools/convert_weights.py

_backbone = L(VGG16)(out_features=["conv3_3", "conv4_3", "conv5_3"], freeze_at=0)

teacher = L(WSDDN)(
    backbone=_backbone,
    in_feature="conv5_3",
    pooler_type="${train.pooler_type}",
    head=L(FCHead)(input_shape=[512, 7, 7], dims=[4096, 4096], dropout=0.5),
    num_classes="${dataset.num_classes}",
    class_names="${dataset.class_names}",
    score_scale="${proposals.score_scale}",
    **CAFFE_BGR,
)
teacher_size = 672

student = L(MultiLabelClassifier)(
    backbone=_backbone,
    in_feature="conv5_3",
    head=L(FCHead)(input_shape=[512, 14, 14], dims=[4096, 4096], dropout=0.5, pool=2),  # pool5, at a side of 224
    num_classes="${dataset.num_classes}",
    class_names="${dataset.class_names}",
    **CAFFE_BGR,
)
