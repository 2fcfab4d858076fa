"""A supervised Faster R-CNN on digit_scenes, trained with the boxes of the training split, to make proposals (Table 5).

``tools/generate_proposals.py --method detector --detector-config`` takes this file; docs/proposals.md says how.
"""

from ..common.detection import detection_loaders
from ..common.models.faster_rcnn import faster_rcnn
from ..common.optim import adamw as optimizer
from ..common.optim import cosine as lr_multiplier
from ..common.train import train, trainer
from .data import dataset
from .models import pixels
from .models import student as _student

model = faster_rcnn(
    _student.backbone,
    ("conv3", 64, 4),
    anchor_sizes=[12, 17, 24],  # of the training digits: 10 to 30 pixels, most of them 1.5 times as high as wide
    aspect_ratios=[1.5, 2.5],
    fc_dim=128,
    pixels=pixels,
)

train.output_dir = "output/digit_scenes/faster_rcnn"
train.max_iter = 1100  # 3 epochs, 4 minutes on one core
optimizer.lr = 2e-3
dataloader = detection_loaders(128, flip_prob=0.0)
