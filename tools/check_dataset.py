#!/usr/bin/env python
"""Check datasets on disk: counts, classes, corrupt images, images in two splits.

    python tools/check_dataset.py --dataset coco_2014_train_mlc coco_2014_val_mlc
    python tools/check_dataset.py --config-file CONFIG [key=value ...]

Exits with code 1 if there is an error.
"""

import wsd_distill  # noqa: F401  (first: it patches Detectron2 0.6 for a current PyTorch)

# isort: split
import argparse
import logging
import os
import sys

from wsd_distill.data.check import check_datasets
from wsd_distill.engine.cli import add_config_options, choose_datasets, parse_with_config


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", nargs="+", metavar="NAME", help="datasets (default: the datasets of the config)")
    add_config_options(parser, "config whose datasets are registered")
    parser.add_argument("--num-workers", type=int, default=os.cpu_count(), help="worker processes, 0 for none")
    arguments, cfg = parse_with_config(parser, "dataset")
    datasets = choose_datasets(parser, arguments.dataset, cfg)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    errors = check_datasets(datasets, arguments.num_workers)
    for error in errors:
        print(f"ERROR {error}")
    print(f"{len(errors)} errors" if errors else "OK")
    return 1 if errors else 0


if __name__ == "__main__":
    raise SystemExit(main())
