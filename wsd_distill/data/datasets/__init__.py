"""Importing this module registers every built-in data set in Detectron2's DatasetCatalog and MetadataCatalog.

No file is read before a data set is loaded.
"""

from . import coco, digit_scenes, nus_wide, voc
from .catalog import count_classes, register_from, source_of, splits_of
from .coco import register_coco
from .held_out import register_part
from .image_list import register_image_list

__all__ = [
    "count_classes",
    "register_coco",
    "register_from",
    "register_image_list",
    "register_part",
    "source_of",
    "splits_of",
]

for _module in (coco, digit_scenes, nus_wide, voc):
    _module.register_all()
