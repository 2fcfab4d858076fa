"""FitNets on VGG16 (Section 4.2), then SoftLabels's distillation of what the hint has trained."""

from .soft_labels import dataloader, distiller, lr_multiplier, model, optimizer, train, trainer

train.output_dir = "output/${dataset.name}/fitnets_vgg16_${proposals.method}"
train.init_checkpoint = "output/${dataset.name}/fitnets_hint_vgg16_${proposals.method}/model_final.pth"
