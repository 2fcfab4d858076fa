#!/usr/bin/env python
"""Verify datasets on disk: counts, class order, broken or missing images, images in two splits. Exit code 1: a fault.

python tools/check_dataset.py --dataset coco_2014_train_mlc coco_2014_val_mlc
python tools/check_dataset.py --config-file configs/image_list/data.py key=value ...
"""

import wsd_distill  # noqa: F401  (first: it patches Detectron2 0.6 for a current PyTorch)

# isort: split
import argparse
import logging
import os
import sys

from wsd_distill.data.check import check_datasets
from wsd_distill.engine.cli import add_config_options, choose_datasets, parse_with_config


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", nargs="+", metavar="NAME", help="datasets; default: those of the config")
    add_config_options(parser, "a config, to know the datasets that it registers")
    parser.add_argument("--num-workers", type=int, default=os.cpu_count(), help="processes; 0: none beside this one")
    arguments, cfg = parse_with_config(parser, "dataset")
    arguments.dataset = choose_datasets(parser, arguments.dataset, cfg)
    return arguments


def report(faults: list[str]) -> int:
    """Print them; gives the exit code."""
    for fault in faults:
        print(f"FAULT {fault}")
    print(f"{len(faults)} faults" if faults else "all is well")
    return 1 if faults else 0


def main() -> int:
    arguments = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    return report(check_datasets(arguments.dataset, arguments.num_workers))


if __name__ == "__main__":
    raise SystemExit(main())
