"""Importing this module registers every built-in dataset in Detectron2's DatasetCatalog and MetadataCatalog.

No file is read before a dataset is loaded.
"""

from . import coco, digit_scenes, nus_wide, voc
from .catalog import (
    SPLITS,
    DatasetInfo,
    get_dataset_info,
    get_fold,
    get_source_dataset,
    get_splits,
    get_whole_dataset,
    list_datasets,
    register,
    register_holdout,
    register_info,
    register_with_unlabelled,
    register_without_fold,
)
from .coco import register_coco
from .image_list import register_files, register_image_list, register_unlabelled

__all__ = [
    "SPLITS",
    "DatasetInfo",
    "get_dataset_info",
    "get_fold",
    "get_source_dataset",
    "get_splits",
    "get_whole_dataset",
    "list_datasets",
    "register",
    "register_coco",
    "register_files",
    "register_holdout",
    "register_image_list",
    "register_info",
    "register_unlabelled",
    "register_with_unlabelled",
    "register_without_fold",
]

for _module in (coco, digit_scenes, nus_wide, voc):
    _module.register_all()
