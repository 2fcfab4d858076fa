#!/usr/bin/env python
"""Convert ImageNet weights into a file for train.init_checkpoint (LazyConfig) or MODEL.WEIGHTS (YAML).

python tools/convert_weights.py torchvision-vgg16 vgg16-397923af.pth output/vgg16.pth
python tools/convert_weights.py caffe-vgg16 VGG_ILSVRC_16_layers.caffemodel output/vgg16_caffe.pth
python tools/convert_weights.py torchvision-resnet resnet50-0676ba61.pth output/resnet50.pth
python tools/convert_weights.py timm convnext_tiny.pth output/convnext_tiny.pth --name convnext_tiny
python tools/convert_weights.py checkpoint trained.pth output/trained.pth --classes classes.txt

One file initializes T-WDet and S-Cls. It stores the normalization of the weights (mean, standard deviation, channel
order); loading it into a model with another normalization is an error. "checkpoint" adds the class names to trained
weights of T-WDet or S-Cls that have none.
"""

import wsd_distill  # noqa: F401  (first: it patches Detectron2 0.6 for a current PyTorch)

# isort: split
import argparse
from pathlib import Path

import torch

from wsd_distill.data.datasets.readers import read_class_names
from wsd_distill.engine.cli import expand_paths, report_user_errors
from wsd_distill.io import atomic_write
from wsd_distill.modeling.checkpoints.converters import FORMATS
from wsd_distill.modeling.normalization import describe_normalization


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("format", choices=FORMATS)
    parser.add_argument("input", help="file to convert; for timm, - downloads the weights")
    parser.add_argument("output", type=Path)
    parser.add_argument("--name", help="name of the network in timm, with its tag if the normalization depends on it")
    parser.add_argument("--classes", help="text file with one class per line, in the order of the outputs")
    args = expand_paths(parser.parse_args())
    for option, wanted in (("name", "timm"), ("classes", "checkpoint")):
        if (args.format == wanted) != bool(getattr(args, option)):
            parser.error(f"--{option} is required for the format {wanted}, and only for it")
    with report_user_errors(parser):
        options = {"name": args.name} if args.name else {}
        if args.classes:
            options = {"classes": read_class_names(args.classes)}
        content = FORMATS[args.format](None if args.input == "-" and args.name else args.input, **options)
        with atomic_write(args.output) as tmp_path, open(tmp_path, "wb") as file:
            torch.save(content, file)
    print(f"{args.output}: {len(content['model'])} tensors; set the model's {describe_normalization(content['model'])}")


if __name__ == "__main__":
    main()
