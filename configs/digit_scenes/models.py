"""T-WDet and S-Cls on a small backbone each, both trained from scratch."""

from detectron2.config import LazyCall as L

from wsd_distill.modeling import WSDDN, FCHead, GlobalPoolHead, MultiLabelClassifier, SmallConvNet

pixels = dict(pixel_mean=[70.0, 70.0, 70.0], pixel_std=[50.0, 50.0, 50.0], image_format="RGB")

teacher = L(WSDDN)(
    backbone=L(SmallConvNet)(channels=[16, 32], convs=[1, 2], norm="BN"),  # digits are 13 pixels and more: stride 2
    in_feature="conv2",
    head=L(FCHead)(input_shape=[32, 7, 7], dims=[128], dropout=0.3, batch_norm=True),
    num_classes="${dataset.num_classes}",
    score_scale=4.0,  # EdgeBoxes' scores are about 0.2 here; training from scratch wants them near 1
    score_shift=0.0,
    test_nms_thresh=0.4,
    test_topk_per_image=None,
    **pixels,
)

student = L(MultiLabelClassifier)(
    backbone=L(SmallConvNet)(channels=[16, 32, 64], convs=[1, 1, 2], norm="BN"),
    in_feature="conv3",
    head=L(GlobalPoolHead)(channels=64, mode="avg"),
    num_classes="${dataset.num_classes}",
    **pixels,
)
