"""Importing this module registers every built-in data set in Detectron2's DatasetCatalog and MetadataCatalog."""

from . import digit_scenes

digit_scenes.register()
