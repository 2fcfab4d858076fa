#!/usr/bin/env python
"""Train or evaluate what a LazyConfig describes.

python tools/train_net.py --config-file configs/digit_scenes/teacher.py [key=value ...]
"""

import wsd_distill  # noqa: F401  (first: it patches Detectron2 0.6 for a current PyTorch)

# isort: split
import json
import logging
import math
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import LazyConfig, instantiate
from detectron2.engine import HookBase, default_argument_parser, default_setup, default_writers, hooks
from detectron2.evaluation import inference_on_dataset, print_csv_format
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng
from detectron2.utils.logger import setup_logger

from wsd_distill.data.datasets import register_from_config
from wsd_distill.engine import (
    ResumableCheckpointer,
    apply_overrides,
    broadcast_buffers,
    create_ddp_model,
    launch,
    place,
    scale_to_batch,
)
from wsd_distill.io import atomic_write, file_lock
from wsd_distill.modeling.checkpoints import load_weights

logger = logging.getLogger("wsd_distill")

RESULTS = "results.json"  # the last thing that a training writes: where it lies, the run is complete
EVALUATION = "evaluation.json"  # what --eval-only writes


def do_test(cfg, model) -> dict:
    """Evaluate on every entry of ``dataloader.test``, in order; on the main process name -> metrics, else {}."""
    broadcast_buffers(model)
    results = {}
    for name, test in cfg.dataloader.test.items():
        result = inference_on_dataset(model, instantiate(test.loader), instantiate(test.evaluator))
        if comm.is_main_process():
            logger.info("Results on %s", name)
            print_csv_format(result)
            results[name] = result
    return results


def write_results(cfg, results: dict, name: str) -> None:
    """``name`` in the run's folder; what is undefined there, the AP of a class without an image, is null."""
    if comm.is_main_process():
        with atomic_write(Path(cfg.train.output_dir) / name) as tmp_path:
            tmp_path.write_text(json.dumps(nan_to_none(results), indent=1, allow_nan=False))


def nan_to_none(results):
    """Nested dicts of numbers as JSON has them, which knows neither NaN nor infinity."""
    if isinstance(results, dict):
        return {name: nan_to_none(value) for name, value in results.items()}
    return results if math.isfinite(results) else None


def lock_output_dir(folder: str) -> AbstractContextManager:
    """Keeps a second process out of the run's folder, made here; the main process does so for all ranks."""
    if not comm.is_main_process():
        return nullcontext()
    Path(folder).mkdir(parents=True, exist_ok=True)
    return file_lock(Path(folder) / "lock")


def build_lr_hook(cfg, optimizer) -> HookBase:
    """``lr_multiplier``: a hook that sets learning rates itself, or a multiplier of them over ``train.max_iter``."""
    schedule = instantiate(cfg.lr_multiplier)
    return schedule if isinstance(schedule, HookBase) else hooks.LRScheduler(optimizer, schedule)


def do_train(cfg, model, resume: bool) -> None:
    unwrapped_model = model
    if "distiller" in cfg:
        cfg.distiller.student = model
        unwrapped_model = instantiate(cfg.distiller).to(cfg.train.device)
        place(unwrapped_model.teacher, cfg.train.device, cfg.train.channels_last)
    cfg.optimizer.params.model = unwrapped_model
    optimizer = instantiate(cfg.optimizer)
    cfg.trainer.model = create_ddp_model(unwrapped_model)
    cfg.trainer.optimizer = optimizer
    trainer = instantiate(cfg.trainer)

    checkpointer = DetectionCheckpointer(model, cfg.train.output_dir, trainer=trainer)
    main = comm.is_main_process()
    latest = {}

    def evaluate() -> dict:
        latest.update(do_test(cfg, model))
        return latest

    trainer.register_hooks(
        [
            hooks.IterationTimer(),
            build_lr_hook(cfg, optimizer),
            ResumableCheckpointer(checkpointer, **cfg.train.checkpointer) if main else None,
            hooks.EvalHook(cfg.train.eval_period, evaluate),
            hooks.PeriodicWriter(default_writers(cfg.train.output_dir, cfg.train.max_iter), cfg.train.log_period)
            if main
            else None,
        ]
    )
    checkpointer.resume_or_load(cfg.train.init_checkpoint, resume=resume)
    start = trainer.iter + 1 if resume and checkpointer.has_checkpoint() else 0
    if start > 0:  # a resumed run goes on with other images than those that it began with
        seed_all_rng(cfg.train.seed + start + comm.get_rank())
    trainer.data_loader = instantiate(cfg.dataloader.train)
    if start < cfg.train.max_iter and main:  # otherwise the run is complete, and only evaluated again
        (Path(cfg.train.output_dir) / RESULTS).unlink(missing_ok=True)
    trainer.train(start, cfg.train.max_iter)
    write_results(cfg, latest, RESULTS)


def main(args) -> None:
    cfg = apply_overrides(LazyConfig.load(args.config_file), args.opts)
    scale_to_batch(cfg)
    register_from_config(cfg)
    with lock_output_dir(cfg.train.output_dir):
        default_setup(cfg, args)
        setup_logger(cfg.train.output_dir, distributed_rank=comm.get_rank(), name="wsd_distill")
        model = place(instantiate(cfg.model), cfg.train.device, cfg.train.channels_last)
        if args.eval_only:
            load_weights(model, cfg.train.init_checkpoint)
            write_results(cfg, do_test(cfg, model), EVALUATION)
        else:
            do_train(cfg, model, args.resume)


if __name__ == "__main__":
    arguments = default_argument_parser(__doc__).parse_args()
    launch(
        main,
        arguments.num_gpus,
        num_machines=arguments.num_machines,
        machine_rank=arguments.machine_rank,
        dist_url=arguments.dist_url,
        args=(arguments,),
    )
