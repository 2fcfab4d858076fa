#!/usr/bin/env python
"""Train or evaluate what a LazyConfig describes.

python tools/train_net.py --config-file configs/small/teacher.py dataset.name=digit_scenes [key=value ...]

Several processes: --num-gpus, or torchrun or srun (docs/clusters.md).
"""

import wsd_distill  # noqa: F401  (first: it patches Detectron2 0.6 for a current PyTorch)

# isort: split
import argparse
from pathlib import Path

from detectron2.config import instantiate
from detectron2.engine import default_argument_parser

from wsd_distill.engine import launch, load_config, resolve_schedule, to_device
from wsd_distill.engine.cli import expand_paths, report_user_errors
from wsd_distill.engine.evaluations import check_data
from wsd_distill.engine.run_folder import EVALUATION, RESULTS, check_start, describe_inputs, lock_output_dir, setup_run
from wsd_distill.engine.termination import Termination
from wsd_distill.engine.training import check_checkpoints, choose_weights, do_test, do_train, write_results
from wsd_distill.modeling.checkpoints.load import load_weights


def make_parser() -> argparse.ArgumentParser:
    parser = default_argument_parser(__doc__)
    parser.add_argument(
        "--allow-changes", action="store_true", help="with --resume: continue although settings of the run have changed"
    )
    return parser


def main(args: argparse.Namespace) -> None:
    with Termination() as termination, report_user_errors(make_parser()) as log_errors:
        cfg = load_config(args.config_file, args.opts)
        if not args.eval_only:
            check_checkpoints(cfg, args.resume)
            check_data(cfg)
        elif not cfg.dataloader.get("test"):
            raise ValueError("--eval-only evaluates dataloader.test, which is null")
        with lock_output_dir(cfg.train.output_dir):
            changes, inputs = [], {}
            if not args.eval_only:
                inputs = describe_inputs(cfg)
                changes = check_start(cfg, inputs, resume=args.resume, allow_changes=args.allow_changes)
            is_complete = args.resume and not changes and Path(cfg.train.output_dir, RESULTS).exists()
            logger = setup_run(cfg, args, inputs, keep_config=is_complete and not args.eval_only)
            log_errors(logger, cfg.train.output_dir)
            if changes:
                logger.warning("Resuming with other settings, as of --allow-changes: %s", "; ".join(changes))
            if is_complete and not args.eval_only:
                logger.info("%s is complete, nothing to do; --eval-only evaluates it again", cfg.train.output_dir)
                return
            model = to_device(instantiate(cfg.model), cfg.train.device, cfg.train.channels_last)
            if args.eval_only:
                weights = choose_weights(cfg, args.opts)
                logger.info("Evaluating %s", weights)
                load_weights(model, weights)
                write_results(cfg, {**do_test(cfg, model), "weights": weights}, EVALUATION)
            else:
                resolve_schedule(cfg)
                do_train(cfg, model, args.resume, termination)


if __name__ == "__main__":
    parser = make_parser()
    with report_user_errors(parser):
        launch(main, expand_paths(parser.parse_args()))
