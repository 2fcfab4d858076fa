"""Supervised Faster R-CNN, trained with the boxes of the training split, to make proposals (Table 5)."""

from ..common.faster_rcnn import detection_loaders, faster_rcnn
from .base import dataset, detector, image_proposals, lr_multiplier, optimizer, proposals, train, trainer
from .base import pixels as _pixels
from .base import student as _student

train.update(run="faster_rcnn", root="output/${dataset.name}/${train.recipe}", batch_size=8)
train.epochs = 2.933  # 1,100 iterations on digit_scenes, 4 minutes on one core
train.new_layers = ["proposal_generator", "roi_heads"]
optimizer.lr = 2e-3
dataloader = detection_loaders(128)
model = faster_rcnn(
    _student.backbone,
    ("conv3", 64, 4),
    anchor_sizes=[12, 17, 24],  # digits of the training split have 10 to 30 pixels, mostly 1.5 times as high as wide
    aspect_ratios=[1.5, 2.5],
    fc_dim=128,
    pixels=_pixels,
)
image_proposals.image_format = "${model.input_format}"
