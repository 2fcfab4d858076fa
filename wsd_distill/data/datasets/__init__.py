"""Importing this module registers every built-in dataset in Detectron2's DatasetCatalog and MetadataCatalog.

No file is read before a dataset is loaded.
"""

from . import coco, digit_scenes, nus_wide, voc
from .catalog import count_classes, get_source_dataset, get_splits, register_from_config
from .coco import register_coco
from .holdout import register_holdout
from .image_list import register_image_list

__all__ = [
    "count_classes",
    "register_coco",
    "register_from_config",
    "register_image_list",
    "register_holdout",
    "get_source_dataset",
    "get_splits",
]

for _module in (coco, digit_scenes, nus_wide, voc):
    _module.register_all()
