#!/usr/bin/env python
"""Check datasets on disk: counts, classes, corrupt images, images in two splits.

    python tools/check_dataset.py --dataset coco_2014_train_mlc coco_2014_val_mlc
    python tools/check_dataset.py --config-file CONFIG [key=value ...]

Faults of one kind are counted, and the first are printed. Exits with code 1 if there is an error; classes that cannot
be measured and annotations that are left out are warnings.
"""

import wsd_distill  # noqa: F401  (first: it patches Detectron2 0.6 for a current PyTorch)

# isort: split
import argparse
import logging
import os
import sys
from collections import Counter
from pathlib import Path

from wsd_distill.data.check import SHOWN, check_datasets, group_faults
from wsd_distill.engine.cli import add_config_options, choose_datasets, parse_with_config
from wsd_distill.engine.evaluations import has_teacher


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", nargs="+", metavar="NAME", help="datasets (default: the datasets of the config)")
    add_config_options(parser, "config whose datasets are registered")
    faults = f"file for all faults (default: check_NAME.txt, if there are more than {SHOWN} of a kind)"
    parser.add_argument("--faults", type=Path, metavar="FILE", help=faults)
    parser.add_argument("--num-workers", type=int, default=os.cpu_count(), help="worker processes, 0 for none")
    arguments, cfg = parse_with_config(parser, "dataset")
    datasets = choose_datasets(parser, arguments.dataset, cfg)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    with_teacher = cfg is not None and has_teacher(cfg)
    faults = check_datasets(datasets, arguments.num_workers, with_teacher=with_teacher)
    errors, warnings = ([fault for fault in faults if fault.is_warning == kind] for kind in (False, True))
    for level, found in (("ERROR", errors), ("WARNING", warnings)):
        for line in group_faults(found):
            print(f"{level} {line}")
    if max(Counter(fault.kind for fault in faults).values(), default=0) > SHOWN or arguments.faults:
        path = arguments.faults or Path(f"check_{cfg.dataset.name if cfg else datasets[0]}.txt")
        path.write_text("".join(f"{fault.kind}: {fault.detail}\n" for fault in faults))
        print(f"all faults are in {path}")
    counts = [f"{len(found)} {name}" for name, found in (("errors", errors), ("warnings", warnings)) if found]
    print(", ".join(counts) or "OK")
    return 1 if errors else 0


if __name__ == "__main__":
    raise SystemExit(main())
