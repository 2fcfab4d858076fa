"""A detector that a saved LazyConfig can name."""

from detectron2.config import get_cfg
from detectron2.modeling import build_model


def build_tiny(num_classes, config):
    """Build the model of a Detectron2 YAML file, with another number of classes."""
    cfg = get_cfg()
    cfg.merge_from_file(config)
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = num_classes
    return build_model(cfg)
