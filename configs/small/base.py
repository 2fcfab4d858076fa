"""T-WDet and S-Cls on a small network each, trained from scratch, for ``digit_scenes``."""

from detectron2.config import LazyCall as L

from wsd_distill.modeling import WSDDN, FCHead, GlobalPoolHead, MultiLabelClassifier, SmallConvNet

from ..common.data import dataloader, dataset, detector, image_proposals, proposals
from ..common.train import adamw as optimizer
from ..common.train import cosine as lr_multiplier
from ..common.train import train, trainer

dataset.name = "digit_scenes"
train.update(recipe="small", epochs=12, batch_size=16)
train.pooler_type = "ROIPool"  # of T-WDet and of stage 1
optimizer.lr = 1e-2
dataloader.train.mapper.sizes = [40]
dataloader.train.mapper.fast_decode = False  # published results are with Pillow's resizing
dataloader.train.num_workers = 0  # scenes are small: a worker process costs more time than it saves
for _method in proposals.methods.values():
    _method.num_proposals = 32
# EdgeBoxes' scores are about 0.2 here; training from scratch needs them near 1.
# Selective search has the same factor, untuned.
for _method in (proposals.methods.edge_boxes, proposals.methods.selective_search):
    _method.score_scale = 4.0

pixels = dict(pixel_mean=[70.0, 70.0, 70.0], pixel_std=[50.0, 50.0, 50.0], image_format="RGB")

teacher = L(WSDDN)(
    backbone=L(SmallConvNet)(channels=[16, 32], convs=[1, 2], norm="BN"),  # stride 2: digits are 13 pixels and more
    in_feature="conv2",
    pooler_type="${train.pooler_type}",
    head=L(FCHead)(input_shape=[32, 7, 7], dims=[128], dropout=0.3, batch_norm=True),
    num_classes="${dataset.num_classes}",
    class_names="${dataset.class_names}",
    score_scale="${proposals.score_scale}",
    **pixels,
)
teacher_size = 128

student = L(MultiLabelClassifier)(
    backbone=L(SmallConvNet)(channels=[16, 32, 64], convs=[1, 1, 2], norm="BN"),
    in_feature="conv3",
    head=L(GlobalPoolHead)(channels=64, mode="avg"),
    num_classes="${dataset.num_classes}",
    class_names="${dataset.class_names}",
    **pixels,
)
