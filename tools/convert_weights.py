#!/usr/bin/env python
"""Convert ImageNet weights into a file for train.init_checkpoint (LazyConfig) or MODEL.WEIGHTS (YAML).

python tools/convert_weights.py torchvision-vgg16 vgg16-397923af.pth output/vgg16.pth
python tools/convert_weights.py caffe-vgg16 VGG_ILSVRC_16_layers.caffemodel output/vgg16_caffe.pth
python tools/convert_weights.py torchvision-resnet resnet50-0676ba61.pth output/resnet50.pth
python tools/convert_weights.py timm convnext_tiny.pth output/convnext_tiny.pth --name convnext_tiny

One file initializes T-WDet and S-Cls. It stores the normalization of the weights (mean, standard deviation, channel
order); loading it into a model with another normalization is an error.
"""

import wsd_distill  # noqa: F401  (first: it patches Detectron2 0.6 for a current PyTorch)

# isort: split
import argparse
from pathlib import Path

import torch

from wsd_distill.engine.cli import expand_paths, report_user_errors
from wsd_distill.modeling.checkpoints.converters import FORMATS
from wsd_distill.modeling.normalization import describe_normalization


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("format", choices=FORMATS)
    parser.add_argument("input", help="file to convert; for timm, - downloads the weights")
    parser.add_argument("output", type=Path)
    parser.add_argument("--name", help="name of the network in timm, with its tag if the normalization depends on it")
    args = expand_paths(parser.parse_args())
    if (args.format == "timm") != bool(args.name):
        parser.error("--name is required for the format timm, and only for it")
    options = {"name": args.name} if args.name else {}
    with report_user_errors(parser):
        content = FORMATS[args.format](None if args.input == "-" and args.name else args.input, **options)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, args.output)
    print(f"{args.output}: {len(content['model'])} tensors; set the model's {describe_normalization(content['model'])}")


if __name__ == "__main__":
    main()
