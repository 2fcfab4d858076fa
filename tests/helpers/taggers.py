"""A model folder of a small random network with logits of a trained one's size."""

import wsd_distill  # noqa: F401

# isort: split
import torch
from detectron2.config import LazyCall, instantiate
from omegaconf import OmegaConf

from wsd_distill.modeling import GlobalPoolHead, MultiLabelClassifier, SmallConvNet
from wsd_distill.tagging.model_config import ModelConfig
from wsd_distill.tagging.onnx_export import example_pixels
from wsd_distill.tagging.save import make_config, save_model_folder

CLASSES = ["cat", "dog", "a|b", "vögel", "car", "bus"]
PIXELS = {"pixel_mean": [100.0, 110.0, 120.0], "pixel_std": [50.0, 50.0, 50.0], "image_format": "RGB"}


def make_tagger(
    backbone=None, in_feature="conv2", head=None, *, image_size=64, fast_decode=True, pixels=PIXELS, **options
) -> tuple[MultiLabelClassifier, ModelConfig]:
    """Return a random S-Cls and its settings; ``options`` as in ``make_config``."""
    torch.manual_seed(0)
    cfg = OmegaConf.create(
        {
            "model": {
                "backbone": backbone or LazyCall(SmallConvNet)(channels=[4, 8], convs=[1, 1], norm="BN"),
                "in_feature": in_feature,
                "head": head or LazyCall(GlobalPoolHead)(channels=8),
            },
            "dataloader": {
                "test": {"test": {"loader": {"mapper": {"sizes": [image_size], "fast_decode": fast_decode}}}}
            },
        },
        flags={"allow_objects": True},
    )
    model = MultiLabelClassifier(
        backbone=instantiate(cfg.model.backbone),
        in_feature=in_feature,
        head=instantiate(cfg.model.head),
        num_classes=len(CLASSES),
        class_names=CLASSES,
        **pixels,
    ).eval()
    _scale_logits(model, image_size)
    return model, make_config(cfg, model, **options)


@torch.no_grad()
def _scale_logits(model: MultiLabelClassifier, image_size: int) -> None:
    """Give the logits of example pixels a mean of 0 and a standard deviation of 3 for each class."""
    images = torch.from_numpy(example_pixels(image_size)).permute(0, 3, 1, 2)
    logits = model.logits(model.features([{"image": image} for image in images]))
    scale = 3 / logits.std(0)
    model.classifier.bias.copy_((model.classifier.bias - logits.mean(0)) * scale)
    model.classifier.weight.mul_(scale[:, None])


def save_tagger(folder, *network, **options) -> tuple[MultiLabelClassifier, ModelConfig]:
    """Write a model folder; arguments as in ``make_tagger``."""
    model, config = make_tagger(*network, **options)
    save_model_folder(model, config, folder)
    return model, config
