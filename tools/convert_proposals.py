#!/usr/bin/env python
"""Convert object proposals between this project's store and the files of other programs (docs/proposal_store.md).

    python tools/convert_proposals.py voc_2007_trainval.mat proposals.arrow --dataset voc_2007_trainval_mlc
    python tools/convert_proposals.py detections.json proposals.arrow --dataset voc5_train \\
        --config-file configs/voc5/data.py [key=value ...]

A training takes them by overrides: tools/train_net.py ... proposals.train=train.arrow proposals.val=val.arrow ...
"""

import wsd_distill  # noqa: F401  (first: it patches Detectron2 0.6 for a current PyTorch)

# isort: split
import argparse
import logging
import os

from wsd_distill.data.datasets import get_source_dataset
from wsd_distill.engine.cli import add_config_options, choose_datasets, load_datasets, parse_with_config
from wsd_distill.proposals.convert import MISSING, Converter, read, write
from wsd_distill.proposals.formats.mat_files import BOX_FORMATS
from wsd_distill.proposals.formats.proposal_file import FORMATS


def parse_arguments() -> tuple[argparse.Namespace, list[dict]]:
    """Arguments, and the dataset dicts that the proposals are for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = list(FORMATS.values())
    by_suffix = "default: by suffix, " + ", ".join(f"{suffix} {kind}" for suffix, kind in FORMATS.items())
    missing = "what images get that the input lacks (%(default)s)"
    order = "columns of boxes in .mat files (%(default)s)"
    which = "registered dataset that they are for; a part counts as its whole"
    parser.add_argument("input", help="file, or folder with a .mat file for each image")
    parser.add_argument("output", help="file to write")
    parser.add_argument("--dataset", required=True, metavar="NAME", help=which)
    add_config_options(parser, "a config, to know the datasets that it registers")
    parser.add_argument("--from", dest="source_format", choices=kinds, help=f"format of the input; {by_suffix}")
    parser.add_argument("--to", dest="format", choices=kinds, help="format of the output; default: by suffix too")
    parser.add_argument("--missing", choices=MISSING, default="error", help=missing)
    parser.add_argument("--top", type=int, help="keep so many of an image's best boxes; default: all")
    parser.add_argument("--sigmoid", action="store_true", help="scores are logits (an RPN's): make probabilities")
    parser.add_argument("--mat-order", choices=BOX_FORMATS, default=BOX_FORMATS[0], help=order)
    parser.add_argument("--overwrite", action="store_true", help="replace an output that is there")
    arguments, cfg = parse_with_config(parser)
    choose_datasets(parser, [arguments.dataset], cfg)
    arguments.dataset = get_source_dataset(arguments.dataset)  # whose store trainings on a part read
    if os.path.exists(arguments.output) and not arguments.overwrite:
        parser.error(f"{arguments.output} is there already: give --overwrite")
    if arguments.top is not None and arguments.top < 1:
        parser.error(f"--top {arguments.top}: has to be 1 or more")
    return arguments, load_datasets(parser, [arguments.dataset])[arguments.dataset]


def main() -> None:
    arguments, dataset_dicts = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    source = read(arguments.input, arguments.dataset, arguments.source_format, arguments.mat_order)
    converter = Converter(
        source, dataset_dicts, missing=arguments.missing, top=arguments.top, sigmoid=arguments.sigmoid
    )
    write(arguments.output, converter, arguments.dataset, arguments.format, arguments.mat_order)
    logging.info("wrote %s", arguments.output)


if __name__ == "__main__":
    main()
