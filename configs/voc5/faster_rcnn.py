"""A supervised Faster R-CNN on voc5, trained with the boxes of the training split, to make proposals (Table 5).

``tools/generate_proposals.py --method detector --detector-config`` takes this file; docs/proposals.md says how.
"""

from wsd_distill.modeling import INCEPTION_RGB

from ..common.detection import detection_loaders
from ..common.models.faster_rcnn import faster_rcnn
from ..common.models.timm import backbone, init_checkpoint
from ..common.optim import adamw as optimizer
from ..common.optim import cosine as lr_multiplier
from ..common.train import train, trainer
from .data import dataset

model = faster_rcnn(
    backbone,
    ("stride16", 112, 16),
    anchor_sizes=[16, 32, 64, 128, 256],  # half of Detectron2's, as the pictures are half as wide
    aspect_ratios=[0.5, 1.0, 2.0],
    fc_dim=256,
    pixels=INCEPTION_RGB,
)

train.output_dir = "output/voc5/faster_rcnn"
train.init_checkpoint = init_checkpoint
train.max_iter = 600  # 4 epochs, 10 minutes on one core
optimizer.lr = 5e-4
dataloader = detection_loaders(256, flip_prob=0.5)
