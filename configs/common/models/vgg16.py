"""The paper's T-WDet and S-Cls on VGG16, for weights of Caffe's file.

For torchvision's file set ``IMAGENET_RGB`` instead of ``CAFFE_BGR``. ``backbone.freeze_at=2`` keeps conv1_1 to
conv2_2 as they are.
"""

from detectron2.config import LazyCall as L

from wsd_distill.modeling import CAFFE_BGR, VGG16, WSDDN, FCHead, MultiLabelClassifier

backbone = L(VGG16)(out_features=["conv3_3", "conv4_3", "conv5_3"], freeze_at=0)

teacher = L(WSDDN)(
    backbone=backbone,
    in_feature="conv5_3",
    head=L(FCHead)(input_shape=[512, 7, 7], dims=[4096, 4096], dropout=0.5),
    num_classes="${dataset.num_classes}",
    score_scale=1.0,
    score_shift=0.0,
    test_nms_thresh=0.4,
    test_topk_per_image=None,
    **CAFFE_BGR,
)

student = L(MultiLabelClassifier)(
    backbone=backbone,
    in_feature="conv5_3",
    head=L(FCHead)(input_shape=[512, 14, 14], dims=[4096, 4096], dropout=0.5, pool=2),  # pool5, at a side of 224
    num_classes="${dataset.num_classes}",
    **CAFFE_BGR,
)
