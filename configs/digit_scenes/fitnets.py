"""FitNets on digit_scenes, SoftLabels's distillation after the hint."""

from .soft_labels import dataloader, dataset, distiller, lr_multiplier, model, optimizer, proposals, train, trainer

train.output_dir = "output/digit_scenes/fitnets"
train.init_checkpoint = "output/digit_scenes/fitnets_hint/model_final.pth"
