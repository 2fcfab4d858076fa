"""FitNets on your own images, Hinton's distillation after the hint."""

from .hinton import dataloader, dataset, distiller, lr_multiplier, model, optimizer, proposals, train, trainer

train.output_dir = "output/${dataset.name}/fitnets"
train.init_checkpoint = "output/${dataset.name}/fitnets_hint/model_final.pth"
