"""Train and evaluate the model of a config, and write the results."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Sequence
from pathlib import Path

from detectron2.config import instantiate
from detectron2.engine import HookBase, default_writers, hooks
from detectron2.evaluation import inference_on_dataset, print_csv_format
from detectron2.utils import comm
from omegaconf import DictConfig
from torch import nn

from wsd_distill.data.build import get_dataset_dicts
from wsd_distill.data.training_data import TrainingData
from wsd_distill.io import atomic_write
from wsd_distill.modeling.checkpoints.load import hash_state, read_state
from wsd_distill.modeling.freezing import freeze_submodules

from .checkpointer import Checkpointer
from .distributed import broadcast_buffers, create_ddp_model, to_device
from .evaluations import build_evaluator, evaluation_order
from .hooks import ResumableCheckpointer
from .run_folder import RESULTS, as_list, drop_later_metrics
from .termination import Termination, TerminationHook

logger = logging.getLogger("wsd_distill")


def micro_batch(batch_size: int, accumulate: int) -> int:
    """Compute the images of a micro-batch over all ranks; raise ValueError if ``accumulate`` is not a divisor."""
    if batch_size % accumulate:
        text = f"{batch_size} images cannot be split into {accumulate} equal micro-batches"
        raise ValueError(f"{text}: set trainer.accumulate to a divisor")
    return batch_size // accumulate


def resolve_schedule(cfg: DictConfig) -> None:
    """Set ``train.max_iter`` and the checkpoints' period where they are None, from ``train.epochs``.

    A batch has ``dataloader.train.total_batch_size * trainer.accumulate`` images; both results are rounded.
    """
    train = cfg.train
    if train.max_iter is not None and train.checkpointer.period is not None:
        return
    batch = instantiate(cfg.dataloader.train.total_batch_size) * cfg.trainer.accumulate
    epoch = len(get_dataset_dicts(cfg.dataset.train)) / batch
    if train.max_iter is None:
        train.max_iter = max(1, round(train.epochs * epoch))
    if train.checkpointer.period is None:
        train.checkpointer.period = max(1, round(epoch))


def choose_weights(cfg: DictConfig, overrides: Sequence[str]) -> str:
    """Choose the weights to evaluate: those of an override of ``train.init_checkpoint``, otherwise the run's own.

    The run's own are ``model_final.pth``, otherwise its last checkpoint.

    Raises:
        FileNotFoundError: the folder has no weights, and no override gives others.
    """
    if any(override.startswith("train.init_checkpoint=") for override in overrides):
        return cfg.train.init_checkpoint
    folder = Path(cfg.train.output_dir)
    found = sorted(folder.glob(f"model_{'[0-9]' * 7}.pth"))
    final = folder / "model_final.pth"
    if not final.exists() and not found:
        raise FileNotFoundError(
            f"{folder} has no weights (model_*.pth) to evaluate: train first, or give others by "
            "train.init_checkpoint=FILE"
        )
    if final.exists():
        return str(final)
    logger.warning("%s is not complete: evaluating its last checkpoint, %s", folder, found[-1].name)
    return str(found[-1])


def check_checkpoints(cfg: DictConfig, resume: bool) -> None:
    """Check that checkpoints of earlier runs exist; raise FileNotFoundError otherwise. Addresses are not checked."""
    paths = []
    if "distiller" in cfg:
        paths += [("distiller.teacher_checkpoint", path) for path in as_list(cfg.distiller.teacher_checkpoint)]
        paths.append(("distiller.trunk_checkpoint", cfg.distiller.get("trunk_checkpoint")))
    if not resume or cfg.trainer.get("start_penalty"):
        paths.append(("train.init_checkpoint", cfg.train.init_checkpoint))
    for key, path in paths:
        if path and "://" not in path and not Path(path).is_file():
            hint = f"run the config that writes it first, with the same overrides, or set {key}"
            raise FileNotFoundError(f"{path} does not exist: {hint}")


def do_test(cfg: DictConfig, model: nn.Module) -> dict:
    """Evaluate on every entry of ``dataloader.test``; on none if it is null.

    The threshold of a split with ``threshold_split`` is the one that this evaluation has tuned on that split.

    Returns:
        Name -> metrics on the main process, {} on others.

    Raises:
        ValueError: as in ``evaluation_order``.
    """
    broadcast_buffers(model)
    results: dict[str, dict] = {}
    tests, digest = cfg.dataloader.get("test") or {}, hash_state(model.state_dict())
    if not tests:
        logger.info("dataloader.test is null: no evaluation")
    for name in evaluation_order(tests):
        evaluator = build_evaluator(tests[name], comm.all_gather(results)[0], digest)
        result = inference_on_dataset(model, instantiate(tests[name].loader), evaluator)
        if comm.is_main_process():
            logger.info("Results on %s", name)
            print_csv_format(result)
            results[name] = result
    return results


def do_train(cfg: DictConfig, model: nn.Module, resume: bool, termination: Termination) -> None:
    """Train ``model``, or a Distiller around it, and write ``results.json``.

    Args:
        resume: continue from the last checkpoint in the run's folder, if there is one.
        termination: block around this call.
    """
    train, trained = cfg.train, model
    freeze_submodules(model, train.frozen)
    if "distiller" in cfg:
        cfg.distiller.student = model
        trained = instantiate(cfg.distiller).to(train.device)
        to_device(trained.teacher, train.device, train.channels_last)
    _check_data(cfg.dataloader.train, trained)
    cfg.optimizer.params.model = trained
    cfg.trainer.optimizer = optimizer = instantiate(cfg.optimizer)
    cfg.trainer.model = create_ddp_model(trained)
    trainer = instantiate(cfg.trainer)
    schedule = instantiate(cfg.lr_multiplier)  # a hook, or a multiplier of the learning rate over train.max_iter

    checkpointer = Checkpointer(
        model,
        train.output_dir,
        new_layers=train.new_layers,
        saved_model=lambda: trainer.eval_model,
        trainer=trainer,
    )
    main = comm.is_main_process()
    latest: dict[str, dict] = {}

    saving = ResumableCheckpointer(checkpointer, **train.checkpointer) if main else None
    ending = TerminationHook(termination, saving, "start the same command with --resume")

    def evaluate() -> dict:
        if trainer.stopping:  # Detectron2's hook evaluates even where the last iteration ends by SystemExit
            return {}
        try:
            with termination.immediate():
                latest.update(do_test(cfg, trainer.eval_model))
        except SystemExit:
            ending.save()
            raise
        return latest

    trainer.register_hooks(
        [
            hooks.IterationTimer(),
            schedule if isinstance(schedule, HookBase) else hooks.LRScheduler(optimizer, schedule),
            saving,
            ending,
            hooks.EvalHook(train.eval_period, evaluate),
        ]
    )
    if trainer.start_penalty:
        checkpointer.load(train.init_checkpoint)
        state = read_state(train.init_checkpoint) if train.init_checkpoint else {}
        trainer.set_start(model, state, getattr(model, "new_layers", train.new_layers))
    checkpointer.resume_or_load(train.init_checkpoint, resume=resume)
    start = trainer.iter + 1 if resume and checkpointer.has_checkpoint() else 0
    if resume and not start:
        logger.info("%s has no checkpoint to resume from: starting from the beginning", train.output_dir)
    if start:
        if "start_batch" not in cfg.dataloader.train:
            logger.warning(
                "dataloader.train has no key start_batch, as build_train_loader has: the resumed training begins with "
                "the first images again, and its results differ from those of an uninterrupted one"
            )
        else:
            cfg.dataloader.train.start_batch = start * cfg.trainer.accumulate
    trainer.data_loader = instantiate(cfg.dataloader.train)
    if main:
        drop_later_metrics(train.output_dir, start)
        writers = default_writers(train.output_dir, train.max_iter)  # opens metrics.json
        trainer.register_hooks([hooks.PeriodicWriter(writers, train.log_period)])
        if start < train.max_iter:  # otherwise the run is complete, and only evaluated again
            (Path(train.output_dir) / RESULTS).unlink(missing_ok=True)
    trainer.train(start, train.max_iter)
    write_results(cfg, {**latest, **trainer.results()}, RESULTS)


def _check_data(loader: DictConfig, model: nn.Module) -> None:
    """Raise ValueError if ``model`` cannot be trained on what ``loader`` gives, before the teacher runs on it."""
    data = TrainingData.from_config(loader)
    if callable(check := getattr(model, "check_data", None)):
        check(data)
    elif callable(check := getattr(model, "check_mix", None)):
        check(data.mix)


def write_results(cfg: DictConfig, results: dict, name: str) -> None:
    """Write ``name`` in the run's folder; undefined metrics (the AP of a class without an image) become null."""
    if comm.is_main_process():
        with atomic_write(Path(cfg.train.output_dir) / name) as tmp_path:
            tmp_path.write_text(json.dumps(nan_to_none(results), indent=1, allow_nan=False))


def nan_to_none(results: dict | float | str) -> dict | float | str | None:
    """Replace NaN and infinity in nested dicts of numbers and text by None; JSON has neither."""
    if isinstance(results, dict):
        return {name: nan_to_none(value) for name, value in results.items()}
    return results if isinstance(results, str) or math.isfinite(results) else None
