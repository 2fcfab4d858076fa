"""PASCAL VOC 2007, which the paper does not have: 5,011 images to train, 531 of them held out, 4,952 to test."""

from ..common.paper.data import with_holdout

dataset, image_proposals, proposals = with_holdout(
    531, name="voc", train="voc_2007_trainval_mlc", test="voc_2007_test_mlc", num_classes=20
)
epoch = 4_480 // 32  # 140 iterations
