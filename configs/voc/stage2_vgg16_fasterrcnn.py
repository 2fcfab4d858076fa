"""Distillation on VOC 2007, stage 2, with the proposals of a supervised Faster R-CNN (Table 5): S-Cls (w/)."""

from .stage2_vgg16_edgeboxes import (
    dataloader,
    dataset,
    distiller,
    lr_multiplier,
    model,
    optimizer,
    proposals,
    train,
    trainer,
)

proposals.method = "detector"
dataloader.train.mapper.num_proposals = 100
