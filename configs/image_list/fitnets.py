"""FitNets on your own images, SoftLabels's distillation after the hint."""

from .soft_labels import dataloader, dataset, distiller, lr_multiplier, model, optimizer, proposals, train, trainer

train.output_dir = "output/${dataset.name}/fitnets"
train.init_checkpoint = "output/${dataset.name}/fitnets_hint/model_final.pth"
