#!/usr/bin/env python
"""Make the object proposals of registered datasets.

    python tools/generate_proposals.py --config-file configs/digit_scenes/data.py [key=value ...]
    python tools/generate_proposals.py --dataset coco_2014_train_mlc coco_2014_val_mlc
    python tools/generate_proposals.py --dataset NAME --method selective_search --mode quality
    python tools/generate_proposals.py --dataset NAME --method detector --detector-config FILE --weights FILE
    python tools/generate_proposals.py --dataset NAME --shard 2/8    # the second of eight, over a shared folder

Interrupted, the same command goes on where it was. docs/proposals.md says what to expect of each method.
"""

from __future__ import annotations

import wsd_distill  # noqa: F401  (first: it patches Detectron2 0.6 for a current PyTorch)

# isort: split
import argparse
import inspect
import logging
import os

from detectron2.config import instantiate
from omegaconf import DictConfig

from wsd_distill.data.datasets import get_source_dataset
from wsd_distill.data.proposal_store import default_store_path
from wsd_distill.engine.cli import (
    add_config_options,
    check_method,
    choose_datasets,
    load_datasets,
    parse_with_config,
    report_user_errors,
)
from wsd_distill.proposals.generate import Proposer, generate
from wsd_distill.proposals.generators.detector import Detector
from wsd_distill.proposals.generators.edge_boxes import EdgeBoxes
from wsd_distill.proposals.generators.selective_search import MODES, SelectiveSearch
from wsd_distill.proposals.sharding import Shard

METHODS = {"edge_boxes": EdgeBoxes, "selective_search": SelectiveSearch, "detector": Detector}


def parse_arguments() -> tuple[argparse.Namespace, dict[str, list[dict]], Proposer]:
    """Arguments, dataset dicts of each dataset, and what makes their proposals; all read before the work begins."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = "datasets; a part counts as its whole; default: those of the config"
    parser.add_argument("--dataset", nargs="+", metavar="NAME", help=which)
    add_config_options(parser, "a config: its datasets and, without --method, its image_proposals.proposer")
    parser.add_argument("--method", choices=[*METHODS], help="generator (without a config: edge_boxes)")
    parser.add_argument("--output", help="store to write; default: <datasets>/proposals/<dataset>_<method>.arrow")
    workers, share = "processes (%(default)s); 0: none beside this one", "do the I-th of N shares, from 1 (%(default)s)"
    parser.add_argument("--num-workers", type=int, default=os.cpu_count(), help=workers)
    parser.add_argument("--shard", type=shard, default="1/1", metavar="I/N", help=share)
    parser.add_argument("--overwrite", action="store_true", help="replace stores that are there")
    options = add_method_options(parser)
    arguments, cfg = parse_with_config(parser, "dataset")
    names = get_sources(parser, choose_datasets(parser, arguments.dataset, cfg), arguments.output)
    given = {option.dest: option.option_strings[0] for option in options if hasattr(arguments, option.dest)}
    if cfg is None or arguments.method:
        proposer = build_proposer(parser, arguments, options, given)
    elif given:
        parser.error(f"{', '.join(given.values())}: give --method, or change the config's image_proposals.proposer")
    else:
        proposer = proposer_from_config(parser, cfg)
    return arguments, load_datasets(parser, names), proposer


def get_sources(parser: argparse.ArgumentParser, names: list[str], output: str | None) -> list[str]:
    """Each once; for a part its whole, whose store it uses."""
    wholes = list(dict.fromkeys(map(get_source_dataset, names)))
    if output and len(wholes) > 1:
        parser.error("--output names one store: give it with one --dataset")
    return wholes


def shard(text: str) -> Shard:
    try:
        return Shard.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(error) from error


def add_method_options(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Options that are keyword arguments of a method; one that is not given is not in the namespace."""
    options = []

    def add(group: argparse._ArgumentGroup, flag: str, text: str, **more) -> None:
        options.append(group.add_argument(flag, help=text, default=argparse.SUPPRESS, **more))

    every = parser.add_argument_group("several methods")
    add(every, "--max-boxes", "most boxes of an image (500; detector: 100)", type=int)
    beta = f"IoU from which a lesser box is dropped ({EdgeBoxes.beta}; selective_search: {SelectiveSearch.beta})"
    add(every, "--beta", f"{beta}; not of the detector", type=float)
    boxes = parser.add_argument_group("edge_boxes")
    sides = " ".join(map(str, EdgeBoxes.sides))
    add(boxes, "--sides", f"longest sides at which each photo is searched ({sides})", type=int, nargs="+")
    add(boxes, "--alpha", f"IoU between neighbouring windows ({EdgeBoxes.alpha})", type=float)
    add(boxes, "--min-box-area", f"in pixels, after scaling ({EdgeBoxes.min_box_area})", type=float)
    add(
        boxes,
        "--hysteresis",
        "thresholds of the colour gradients ({} {})".format(*EdgeBoxes.hysteresis),
        nargs=2,
        type=float,
    )
    add(boxes, "--edge-model", "OpenCV's structured forests (model.yml.gz); default: colour gradients")
    search = parser.add_argument_group("selective_search")
    add(search, "--mode", f"how many segmentations ({SelectiveSearch.mode})", choices=MODES)
    add(search, "--max-side", f"shrink larger photos to this longest side ({SelectiveSearch.max_side})", type=int)
    detector = parser.add_argument_group("detector")
    add(detector, "--detector-config", "YAML or LazyConfig file, or name in Detectron2's model zoo", dest="config")
    add(detector, "--weights", "checkpoint of the detector")
    add(detector, "--opts", "overrides of the config: KEY value ... for YAML, key=value ... for .py", nargs="+")
    add(detector, "--device", "of PyTorch (the GPU if there is one)")
    return options


def build_proposer(
    parser: argparse.ArgumentParser, arguments: argparse.Namespace, options: list, given: dict[str, str]
) -> Proposer:
    """Of the chosen method. An option of ``given`` that it does not have, or one that it lacks, is an error."""
    name = arguments.method or EdgeBoxes.name
    method = METHODS[name]
    known = inspect.signature(method).parameters
    foreign = [flag for option, flag in given.items() if option not in known]
    if foreign:
        parser.error(f"--method {name} has no {', '.join(foreign)}")
    flags = {option.dest: option.option_strings[0] for option in options}
    lacking = [flags[name] for name in known if known[name].default is known[name].empty and name not in given]
    if lacking:
        parser.error(f"--method {name} needs {', '.join(lacking)}")
    with report_user_errors(parser):
        return method(**{name: getattr(arguments, name) for name in given})


def proposer_from_config(parser: argparse.ArgumentParser, cfg: DictConfig) -> Proposer:
    """The config's own generator, with its parameters."""
    if "image_proposals" not in cfg:
        parser.error("the config has no image_proposals, whose proposer it would be: give --method")
    with report_user_errors(parser):
        proposer = instantiate(cfg.image_proposals.proposer)
    check_method(parser, cfg, proposer)
    return proposer


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    arguments, datasets, proposer = parse_arguments()
    for name, dataset_dicts in datasets.items():
        output = arguments.output or default_store_path(name, proposer.name)
        options = {key: getattr(arguments, key) for key in ("num_workers", "shard", "overwrite")}
        try:
            generate(dataset_dicts, name, proposer, output, **options)
        except FileExistsError as error:  # of other images, or made with other parameters
            raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
