"""digit_scenes: 128x128 pixels, 10 classes. Digits are never flipped: a mirrored 2 is no 2."""

from ..common.data import dataloader, dataset, image_proposals, proposals

for _split in ("train", "val", "test"):
    dataset[_split] = f"digit_scenes_{_split}"
dataset.num_classes = 10
image_proposals.proposer.update(
    max_boxes=64, sides=[192], hysteresis=[60, 120], alpha=0.55, beta=0.5, min_box_area=150.0
)

dataloader.train.mapper.flip_prob = 0.0
dataloader.train.mapper.num_proposals = 32
dataloader.train.mapper.fast = False  # the published figures are those of Pillow's resizing, to the pixel
dataloader.train.total_batch_size = 16
dataloader.train.num_workers = 0  # scenes are small: a process for them costs more than it gives
