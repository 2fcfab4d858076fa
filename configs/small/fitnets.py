"""FitNets (Section 4.2), then soft labels, from the hint's weights."""

from .soft_labels import (
    dataloader,
    dataset,
    detector,
    distiller,
    image_proposals,
    lr_multiplier,
    model,
    optimizer,
    proposals,
    train,
    trainer,
)

train.update(run="fitnets", init_checkpoint="${train.root}/fitnets_hint/model_final.pth")
