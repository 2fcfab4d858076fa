#!/usr/bin/env python
"""Train or evaluate what a LazyConfig describes.

python tools/train_net.py --config-file configs/digit_scenes/teacher.py [--resume] [--eval-only] [--num-gpus N] key=value ...
"""

import wsd_distill  # noqa: F401  (first: it mends Detectron2 0.6 on a current PyTorch)

import json
import logging
import os
from collections import OrderedDict

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import LazyConfig, instantiate
from detectron2.engine import default_argument_parser, default_setup, hooks, launch
from detectron2.engine.defaults import create_ddp_model
from detectron2.evaluation import inference_on_dataset, print_csv_format
from detectron2.utils import comm
from detectron2.utils.events import CommonMetricPrinter, JSONWriter

import wsd_distill.data.datasets  # noqa: F401  (registers the data sets)
from wsd_distill.engine import apply_overrides, write_json

logger = logging.getLogger("wsd_distill")


def do_test(cfg, model) -> dict:
    """Evaluate ``model`` on every data set of ``dataloader.test``, in order; on the main process name -> metrics."""
    results = OrderedDict()
    for name, test in cfg.dataloader.test.items():
        result = inference_on_dataset(model, instantiate(test.loader), instantiate(test.evaluator))
        if comm.is_main_process():
            logger.info("Results on %s", name)
            print_csv_format(result)
            results[name] = result
    if comm.is_main_process():
        write_json(results, os.path.join(cfg.train.output_dir, "metrics.json"))
    return results


def do_train(cfg, model, resume: bool) -> dict:
    learner = model
    if "distiller" in cfg:
        learner = instantiate(cfg.distiller, student=model)
    if "teacher_gate" in cfg:
        instantiate(cfg.teacher_gate, teacher=learner.teacher)
    learner.to(cfg.train.device)
    cfg.optimizer.params.model = learner
    optimizer = instantiate(cfg.optimizer)
    loader = instantiate(cfg.dataloader.train)
    trainer = instantiate(cfg.trainer, model=create_ddp_model(learner), data_loader=loader, optimizer=optimizer)

    results = {}

    def test():
        results.update(do_test(cfg, model))
        return results

    checkpointer = DetectionCheckpointer(model, cfg.train.output_dir, trainer=trainer)
    if learner is not model:
        checkpointer.add_checkpointable("objectives", learner.objectives)
    writers = [CommonMetricPrinter(cfg.train.max_iter), JSONWriter(os.path.join(cfg.train.output_dir, "log.json"))]
    main = comm.is_main_process()
    trainer.register_hooks(
        [
            hooks.IterationTimer(),
            hooks.LRScheduler(scheduler=instantiate(cfg.lr_multiplier)),
            hooks.PeriodicCheckpointer(checkpointer, **cfg.train.checkpointer) if main else None,
            hooks.EvalHook(cfg.train.eval_period, test),
            hooks.PeriodicWriter(writers, period=cfg.train.log_period) if main else None,
        ]
    )
    checkpointer.resume_or_load(cfg.train.init_checkpoint, resume=resume)
    start = trainer.iter + 1 if resume and checkpointer.has_checkpoint() else 0
    trainer.train(start, cfg.train.max_iter)
    return results
