"""Supervised Faster R-CNN, trained with the boxes of the training split, to make proposals (Table 5)."""

from wsd_distill.modeling import INCEPTION_RGB

from ..common.faster_rcnn import detection_loaders, faster_rcnn
from .base import dataset, detector, image_proposals, lr_multiplier, optimizer, proposals, train, trainer
from .base import student as _student

train.update(run="faster_rcnn", root="output/${dataset.name}/${train.recipe}", epochs=4, batch_size=8)
train.new_layers = ["proposal_generator", "roi_heads"]
optimizer.lr = 5e-4
dataloader = detection_loaders(256)
model = faster_rcnn(
    _student.backbone,
    ("stride16", 112, 16),
    anchor_sizes=[16, 32, 64, 128, 256],  # half of Detectron2's, for images half as wide
    aspect_ratios=[0.5, 1.0, 2.0],
    fc_dim=256,
    pixels=INCEPTION_RGB,
)
model.backbone.out_features = ["stride16"]
image_proposals.image_format = "${model.input_format}"
