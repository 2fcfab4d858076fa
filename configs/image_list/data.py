"""Your own images: for each split a CSV with the columns ``file`` and ``labels`` (``;`` between labels), or JSON.

dataset.name=pets dataset.image_root=photos dataset.files.train=train.csv dataset.files.val=val.csv \
    dataset.files.test=test.csv
"""

from detectron2.config import LazyCall as L

from wsd_distill.data.datasets import count_classes, register_image_list

from ..common.data import dataloader, dataset, image_proposals, proposals

dataset.name = "???"  # yours to choose; outputs and proposal stores are named after it
dataset.files = dict(train="???", val="???", test="???")
dataset.image_root = None  # folder that names in the files are relative to; None: the folder of the file
dataset.classes = "${dataset.files.train}"  # or a text file with one class in each line
dataset.num_classes = L(count_classes)(name="${dataset.train}")
for _split in ("train", "val", "test"):
    dataset[_split] = f"${{dataset.name}}_{_split}"
    dataset.register.append(
        L(register_image_list)(
            name=f"${{dataset.{_split}}}",
            file=f"${{dataset.files.{_split}}}",
            image_root="${dataset.image_root}",
            classes="${dataset.classes}",
            split=None,  # where one file holds all splits: the name of this one in its column ``split``
        )
    )
