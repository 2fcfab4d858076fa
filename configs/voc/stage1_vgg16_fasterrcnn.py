"""Distillation on VOC 2007, stage 1, with the proposals of a supervised Faster R-CNN (Table 5)."""

from .stage1_vgg16_edgeboxes import (
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
