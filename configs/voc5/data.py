"""Photos of five classes of VOC 2007, in COCO's format: ``voc5/instances_{train,val}.json``, ``voc5/{train,val}/``.

There is no third split, so val is the test set, and F1 is taken at the threshold that is best on val itself.
"""

import os

from detectron2.config import LazyCall as L

from wsd_distill.data.datasets import register_coco
from wsd_distill.data.root import datasets_root

from ..common.data import dataloader, dataset, image_proposals, proposals

_classes = ["bus", "car", "cat", "person", "train"]
_folder = os.path.join(datasets_root(), "voc5")
for _split in ("train", "val"):
    dataset.register.append(
        L(register_coco)(
            name=f"voc5_{_split}",
            json_file=os.path.join(_folder, f"instances_{_split}.json"),
            image_root=os.path.join(_folder, _split),
            classes=_classes,
        )
    )
dataset.update(train="voc5_train", val="voc5_val", test="voc5_val")
dataset.num_classes = len(_classes)
dataset.name = "voc5"  # outputs are named after it

del dataloader.test.val
dataloader.test.test.evaluator.threshold_split = None
