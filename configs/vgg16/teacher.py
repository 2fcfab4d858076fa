"""T-WDet. The paper gives no learning rate for it: the same as for stage 2."""

from ..common.data import use_proposals
from .base import dataloader, dataset, detector, image_proposals, lr_multiplier, optimizer, proposals, train, trainer
from .base import teacher as model

train.update(run="teacher", epochs=20)
trainer.accumulate = 8  # micro-batches of 4 images of up to 832 pixels
model.proposer = "${image_proposals}"

use_proposals(dataloader)
dataloader.train.mapper.sizes = [480, 576, 672, 736, 832]
for _test in dataloader.test.values():
    _test.loader.mapper.sizes = [672]
    _test.loader.batch_size = 4
