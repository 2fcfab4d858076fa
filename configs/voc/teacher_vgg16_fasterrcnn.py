"""T-WDet on VOC 2007, with the proposals of a supervised Faster R-CNN (Table 5)."""

from ..common.detector import use_detector_proposals
from .teacher_vgg16_edgeboxes import (
    dataloader,
    dataset,
    image_proposals,
    lr_multiplier,
    model,
    optimizer,
    proposals,
    train,
    trainer,
)

proposals.method = "detector"
dataloader.train.mapper.num_proposals = 100
use_detector_proposals(model, image_proposals)
