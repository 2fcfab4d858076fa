"""T-WDet on VGG16 with the numbers of Section 3.3, which names no learning rate for it: that of stage 2."""

from ..data import use_proposals
from ..models.vgg16 import teacher as model
from .student import dataloader, lr_multiplier, optimizer, train, trainer

model.proposer = "${image_proposals}"

train.output_dir = "output/${dataset.name}/teacher_vgg16_${proposals.method}"
trainer.accumulate = 8  # 4 images of up to 832 pixels at once

dataloader.train.mapper.sides = [480, 576, 672, 736, 832]
dataloader.train.mapper.num_proposals = 500
use_proposals(dataloader)
for _test in dataloader.test.values():
    _test.loader.mapper.sides = [672]
    _test.loader.batch_size = 4
