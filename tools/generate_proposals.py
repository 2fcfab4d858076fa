#!/usr/bin/env python
"""Make the object proposals of registered data sets.

    python tools/generate_proposals.py --dataset digit_scenes_train digit_scenes_val
    python tools/generate_proposals.py --config-file configs/image_list/data.py key=value ...

Interrupted, the same command goes on where it was.
"""

import wsd_distill  # noqa: F401  (first: it mends Detectron2 0.6 on a current PyTorch)

# isort: split
import argparse
import logging
import os

from detectron2.config import LazyConfig
from detectron2.data import DatasetCatalog

from wsd_distill.data.datasets import register_from, source_of, splits_of
from wsd_distill.data.proposal_store import default_store_path
from wsd_distill.engine import apply_overrides
from wsd_distill.proposals.edge_boxes import EdgeBoxes
from wsd_distill.proposals.generate import generate


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Make the object proposals of data sets. Interrupted, it goes on where it was.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--dataset", nargs="+", metavar="NAME", help="data sets; default: those of the config")
    parser.add_argument("--config-file", help="a config, to know the data sets that it registers")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="what to change in the config")
    parser.add_argument("--method", choices=["edge_boxes"], default="edge_boxes", help="generator")
    parser.add_argument("--output", help="store to write; default: <data sets>/proposals/<dataset>_<method>.arrow")
    parser.add_argument("--num-workers", type=int, default=os.cpu_count(), help="processes; 0: none beside this one")
    parser.add_argument("--max-boxes", type=int, default=EdgeBoxes.max_boxes, help="most boxes of an image")
    parser.add_argument(
        "--alpha", type=float, default=EdgeBoxes.alpha, help="EdgeBoxes: IoU between neighbouring windows"
    )
    parser.add_argument(
        "--beta", type=float, default=EdgeBoxes.beta, help="EdgeBoxes: IoU from which a lesser box is dropped"
    )
    parser.add_argument(
        "--min-side",
        type=int,
        default=EdgeBoxes.min_side,
        help="enlarge smaller photos to this longest side first",
    )
    parser.add_argument("--max-side", type=int, help="shrink larger photos to this longest side, in pixels, first")
    parser.add_argument("--min-box-area", type=float, default=EdgeBoxes.min_box_area, help="in pixels, after scaling")
    parser.add_argument("--edge-model", help="OpenCV's structured forests (model.yml.gz); default: colour gradients")
    parser.add_argument("--overwrite", action="store_true", help="replace stores that are there")
    arguments = parser.parse_args()
    if arguments.config_file:
        cfg = apply_overrides(LazyConfig.load(arguments.config_file), arguments.overrides)
        register_from(cfg)
        arguments.dataset = arguments.dataset or list(dict.fromkeys(map(source_of, splits_of(cfg))))
    elif arguments.overrides:
        parser.error(f"{' '.join(arguments.overrides)}: without --config-file there is nothing to change")
    if not arguments.dataset:
        parser.error("name data sets with --dataset, or a config with --config-file")
    if arguments.output and len(arguments.dataset) > 1:
        parser.error("--output names one store: give it with one --dataset")
    unknown = sorted(set(arguments.dataset) - set(DatasetCatalog.list()))
    if unknown:
        parser.error(f"not registered: {', '.join(unknown)}; there are {', '.join(sorted(DatasetCatalog.list()))}")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    proposer = EdgeBoxes(
        max_boxes=arguments.max_boxes,
        alpha=arguments.alpha,
        beta=arguments.beta,
        min_side=arguments.min_side,
        min_box_area=arguments.min_box_area,
        max_side=arguments.max_side,
        edge_model=arguments.edge_model,
    )
    for name in arguments.dataset:
        generate(
            DatasetCatalog.get(name),
            name,
            proposer,
            arguments.output or default_store_path(name, arguments.method),
            num_workers=arguments.num_workers,
            overwrite=arguments.overwrite,
        )


if __name__ == "__main__":
    main()
