#!/usr/bin/env python
"""Convert proposals from and to files of other programs (docs/proposal_store.md).

    python tools/convert_proposals.py voc_2007_trainval.mat proposals.arrow --dataset voc_2007_trainval_mlc
    python tools/convert_proposals.py detections.json out.arrow --dataset NAME --config-file CONFIG [key=value ...]

To train with them: tools/train_net.py ... proposals.train=train.arrow proposals.val=val.arrow ...
"""

import wsd_distill  # noqa: F401  (first: it patches Detectron2 0.6 for a current PyTorch)

# isort: split
import argparse
import logging
import os

from detectron2.data import DatasetCatalog

from wsd_distill.data.datasets import get_source_dataset
from wsd_distill.engine.cli import add_config_options, choose_datasets, parse_with_config, report_user_errors
from wsd_distill.proposals.convert import MISSING_POLICIES, Converter, read_proposals, write_proposals
from wsd_distill.proposals.formats.box_formats import BOX_FORMATS
from wsd_distill.proposals.formats.mat_files import BOX_FORMAT, WRITTEN_FORMATS
from wsd_distill.proposals.formats.proposal_file import FORMATS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    formats = list(FORMATS.values())
    by_suffix = "default: by suffix, " + ", ".join(f"{suffix} {name}" for suffix, name in FORMATS.items())
    missing = "what to do with images that the input lacks (%(default)s)"
    dataset = "registered dataset of the proposals; a held-out part uses the store of its source"
    add = parser.add_argument
    add("input", help="file, or folder with a .mat file per image")
    add("output", help="file to write")
    add("--dataset", required=True, metavar="NAME", help=dataset)
    add_config_options(parser, "config whose datasets are registered")
    add("--from", dest="source_format", choices=formats, help=f"format of the input; {by_suffix}")
    add("--to", dest="format", choices=formats, help="format of the output; default: by suffix")
    add("--missing", choices=MISSING_POLICIES, default="error", help=missing)
    add("--top", type=int, help="number of best boxes to keep per image; default: all")
    add("--sigmoid", action="store_true", help="convert scores from logits (of an RPN) to probabilities")
    add("--score-scale", type=float, default=1.0, metavar="X", help="factor of the scores, 0.01 for percents")
    box_format = "columns and unit of the boxes in the input; default: those of its format"
    add("--box-format", choices=BOX_FORMATS, help=box_format)
    add("--accept-boxes", action="store_true", help="convert even if more than 5 %% of the boxes are cut or dropped")
    add("--mat-order", choices=WRITTEN_FORMATS, default=BOX_FORMAT, help="columns in a written .mat file (%(default)s)")
    add("--overwrite", action="store_true", help="replace an existing output")
    arguments, cfg = parse_with_config(parser)
    choose_datasets(parser, [arguments.dataset], cfg)
    arguments.dataset = get_source_dataset(arguments.dataset)  # its store is read by trainings on a part
    if os.path.isdir(arguments.output):
        parser.error(f"{arguments.output} is a folder, not a file: give the path of a file")
    if os.path.exists(arguments.output) and not arguments.overwrite:
        parser.error(f"{arguments.output} already exists: use --overwrite")
    if arguments.top is not None and arguments.top < 1:
        parser.error(f"--top {arguments.top}: must be 1 or more")
    if not arguments.score_scale > 0 or arguments.score_scale == float("inf"):
        parser.error(f"--score-scale {arguments.score_scale}: must be a number above 0")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with report_user_errors(parser):
        dataset_dicts = DatasetCatalog.get(arguments.dataset)
        source = read_proposals(arguments.input, arguments.dataset, arguments.source_format, arguments.box_format)
        options = {key: getattr(arguments, key) for key in ("missing", "top", "sigmoid", "score_scale", "accept_boxes")}
        converter = Converter(source, dataset_dicts, **options)
        write_proposals(arguments.output, converter, arguments.dataset, arguments.format, arguments.mat_order)
    logging.info("wrote %s", arguments.output)


if __name__ == "__main__":
    main()
