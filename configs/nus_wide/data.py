"""NUS-WIDE as in Section 4.1: 81 concepts, 150,000 images to train, 2,000 of them held out, 59,347 to test."""

from ..common.paper.data import with_holdout

dataset, image_proposals, proposals = with_holdout(
    2_000, name="nus_wide", train="nuswide_train", test="nuswide_test", num_classes=81
)
epoch = 148_000 // 32  # 4,625 iterations
