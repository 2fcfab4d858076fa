"""T-WDet on MS-COCO, with the proposals of a supervised Faster R-CNN (Table 5)."""

from .teacher_vgg16_edgeboxes import dataloader, dataset, lr_multiplier, model, optimizer, proposals, train, trainer

proposals.method = "detector"
dataloader.train.mapper.num_proposals = 100
