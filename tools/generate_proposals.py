#!/usr/bin/env python
"""Make the proposal stores of a dataset (docs/proposals.md).

    python tools/generate_proposals.py --config-file configs/small/teacher.py
    python tools/generate_proposals.py --config-file configs/vgg16/teacher.py dataset.name=voc_2007 \\
        --method selective_search
    python tools/generate_proposals.py --config-file configs/vgg16/teacher.py dataset.name=voc_2007 \\
        --method detector detector.config=FILE detector.weights=FILE
    python tools/generate_proposals.py --config-file FILE dataset.name=NAME --shard 2/8    # on a shared folder
    python tools/generate_proposals.py --config-file FILE dataset.name=NAME --ray auto     # on a Ray cluster

The generator's parameters are overrides: image_proposals.proposer.sides=[320]. An interrupted run continues when the
same command is started again.
"""

from __future__ import annotations

import wsd_distill  # noqa: F401  (first: it patches Detectron2 0.6 for a current PyTorch)

# isort: split
import argparse
import logging
import os
from contextlib import ExitStack

from detectron2.config import instantiate
from detectron2.data import DatasetCatalog
from detectron2.utils.registry import locate

from wsd_distill.data.datasets import SPLITS, get_source_dataset
from wsd_distill.engine.cli import add_config_options, check_method, parse_with_config, report_user_errors
from wsd_distill.proposals.generate import generate
from wsd_distill.proposals.sharding import Shard


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_config_options(parser, "recipe with the dataset and the generator", required=True)
    parser.add_argument("--method", metavar="NAME", help="shorthand for proposals.method=NAME")
    workers = f"processes ({os.cpu_count()}); 0: only this one"
    parser.add_argument("--num-workers", type=int, help=workers)
    cluster = "spread the images over a Ray cluster; alone: over a local one"
    parser.add_argument("--ray", nargs="?", const="local", metavar="ADDRESS", help=cluster)
    parser.add_argument("--shard", default="1/1", metavar="I/N", help="do share I of N, from 1 (%(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="replace existing stores and parts of other settings")
    arguments, cfg = parse_with_config(parser)
    if arguments.ray and arguments.num_workers is not None:
        parser.error("--num-workers is of this machine, and --ray uses the CPUs of the cluster: leave one out")
    with report_user_errors(parser):
        arguments.shard = Shard.parse(arguments.shard)
        target = cfg.image_proposals.proposer._target_
        check_method(parser, cfg, locate(target) if isinstance(target, str) else target)  # before its parameters
        proposer = instantiate(cfg.image_proposals.proposer)
        proposer.prepare()  # so that errors come before the work begins
        if arguments.ray and not proposer.in_workers:
            parser.error(f"--ray: {proposer.name} runs in one process per machine: use --shard I/N on each")
        stores = {get_source_dataset(cfg.dataset[split]): instantiate(cfg.proposals[split]) for split in SPLITS}
        datasets = {name: DatasetCatalog.get(name) for name in stores}
    options = {"shard": arguments.shard, "overwrite": arguments.overwrite, "num_workers": arguments.num_workers}
    if arguments.num_workers is None:
        options["num_workers"] = os.cpu_count()
    with report_user_errors(parser), ExitStack() as stack:
        if arguments.ray:
            from wsd_distill.ray_cluster import connect, run_ray_jobs

            stack.enter_context(connect(arguments.ray))
            options["run_jobs"] = run_ray_jobs
        try:
            for name, store in stores.items():
                generate(datasets[name], name, proposer, store, **options)
        except RuntimeError as error:  # every image failed, or a worker was killed
            raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
