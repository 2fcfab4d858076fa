"""Hinton's distillation on your own images: fixed temperatures, the same for all classes."""

from ..common.distill import hinton as distiller
from ..common.distill import trainer
from .data import proposals
from .models import teacher
from .student import dataloader, dataset, lr_multiplier, model, optimizer, train

train.output_dir = "output/${dataset.name}/hinton"

distiller.teacher = teacher
distiller.teacher_checkpoint = "output/${dataset.name}/teacher/model_final.pth"

dataloader.train.proposals = "${proposals.train}"
dataloader.train.mapper.num_proposals = 100
dataloader.train.mapper.teacher_sides = [224]
