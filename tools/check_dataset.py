#!/usr/bin/env python
"""Verify data sets on disk: counts, class order, broken or missing images, images in two splits. Exit code 1: a fault.

python tools/check_dataset.py coco_2014_train_mlc coco_2014_val_mlc
python tools/check_dataset.py --config-file configs/image_list/data.py key=value ...
"""

import wsd_distill  # noqa: F401  (first: it mends Detectron2 0.6 on a current PyTorch)

# isort: split
import argparse
import logging
import os
import sys

from detectron2.config import LazyConfig
from detectron2.data import DatasetCatalog
from omegaconf.errors import OmegaConfBaseException

from wsd_distill.data.check import check_datasets
from wsd_distill.data.datasets import register_from, splits_of
from wsd_distill.engine import apply_overrides


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="data sets (default: the config's), then key=value")
    parser.add_argument("--config-file", help="a config, to know the data sets that it registers")
    parser.add_argument("--num-workers", type=int, default=os.cpu_count(), help="processes; 0: none beside this one")
    arguments = parser.parse_intermixed_args()
    names = arguments.names
    if arguments.config_file:
        overrides = [name for name in arguments.names if "=" in name]
        names = [name for name in arguments.names if "=" not in name]
        cfg = apply_overrides(LazyConfig.load(arguments.config_file), overrides)
        try:
            register_from(cfg)
        except (OSError, ValueError, OmegaConfBaseException) as error:  # the last of a setting that is left out
            raise SystemExit(report([f"{arguments.config_file}: {str(error).splitlines()[0]}"])) from error
        names = names or splits_of(cfg)
    unknown = sorted(set(names) - set(DatasetCatalog.list()))
    if unknown:
        parser.error(f"not registered: {', '.join(unknown)}; there are {', '.join(sorted(DatasetCatalog.list()))}")
    if not names:
        parser.error("name data sets, or a config with --config-file")
    arguments.names = list(dict.fromkeys(names))
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
    return report(check_datasets(arguments.names, arguments.num_workers))


if __name__ == "__main__":
    raise SystemExit(main())
