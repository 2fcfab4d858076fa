#!/usr/bin/env python
"""Train or evaluate what a LazyConfig describes.

python tools/train_net.py --config-file configs/small/teacher.py dataset.name=digit_scenes [key=value ...]
"""

import wsd_distill  # noqa: F401  (first: it patches Detectron2 0.6 for a current PyTorch)

# isort: split
from detectron2.config import instantiate
from detectron2.engine import default_argument_parser, default_setup
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

from wsd_distill.engine import launch, load_config, resolve_schedule, to_device
from wsd_distill.engine.cli import report_user_errors
from wsd_distill.engine.evaluations import check_data
from wsd_distill.engine.training import (
    EVALUATION,
    check_checkpoints,
    choose_weights,
    do_test,
    do_train,
    lock_output_dir,
    write_results,
)
from wsd_distill.modeling.checkpoints.load import load_weights


def main(args) -> None:
    with report_user_errors(default_argument_parser(__doc__)):
        cfg = load_config(args.config_file, args.opts)
        if not args.eval_only:
            check_checkpoints(cfg, args.resume)
            check_data(cfg)
    with lock_output_dir(cfg.train.output_dir):
        default_setup(cfg, args)
        logger = setup_logger(cfg.train.output_dir, distributed_rank=comm.get_rank(), name="wsd_distill")
        model = to_device(instantiate(cfg.model), cfg.train.device, cfg.train.channels_last)
        if args.eval_only:
            weights = choose_weights(cfg, args.opts)
            logger.info("Evaluating %s", weights)
            load_weights(model, weights)
            write_results(cfg, do_test(cfg, model), EVALUATION)
        else:
            resolve_schedule(cfg)
            do_train(cfg, model, args.resume)


if __name__ == "__main__":
    launch(main, default_argument_parser(__doc__).parse_args())
