"""MS-COCO 2014 as in Section 4.1: 80 classes, 82,081 images to train, 2,081 of them held out, 40,137 to test."""

from ..common.paper.data import with_holdout

dataset, image_proposals, proposals = with_holdout(
    2_081, name="coco", train="coco_2014_train_mlc", test="coco_2014_val_mlc", num_classes=80
)
epoch = 80_000 // 32  # 2,500 iterations
