"""T-WDet on MS-COCO, with the proposals of a supervised Faster R-CNN (Table 5)."""

from ..common.detector import detect_on_image
from .teacher_vgg16_edgeboxes import (
    dataloader,
    dataset,
    lr_multiplier,
    model,
    on_image,
    optimizer,
    proposals,
    train,
    trainer,
)

proposals.method = "detector"
dataloader.train.mapper.num_proposals = 100
detect_on_image(model, on_image)
