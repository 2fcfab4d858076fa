"""The folder of a run: its lock, its log, its saved config, and what a start in it may do."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import sys
import tempfile
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any

import torch
import yaml
from detectron2.config import LazyConfig
from detectron2.data import MetadataCatalog
from detectron2.utils import comm
from detectron2.utils.collect_env import collect_env_info
from detectron2.utils.env import seed_all_rng
from detectron2.utils.logger import setup_logger
from omegaconf import DictConfig, OmegaConf

from wsd_distill.data.build import get_dataset_dicts
from wsd_distill.data.check import split_hash
from wsd_distill.io import atomic_write, check_file, file_lock, remove_leftovers
from wsd_distill.modeling.checkpoints.load import hash_state, name_key, read_state

RESULTS = "results.json"  # the last file that a training writes: where it exists, the run is complete
EVALUATION = "evaluation.json"  # written by --eval-only
CONFIG = "config.yaml"
INPUTS = "inputs.json"  # of describe_inputs, beside the config
EARLIER = "earlier"  # in it: hashes of other training labels that the run has used, separated by spaces

# Keys that do not change what is learned, except by rounding on another device.
_HARMLESS = re.compile(
    r"train\.(channels_last|cudnn_benchmark|log_period|eval_period|checkpointer\..*|root|recipe|run)"
    r"|(.*\.)?(device|num_workers|output_dir)|trainer\.teacher_check\..*|distiller\.cache\.(folder|batch_size)"
)


def changes_results(key: str) -> bool:
    """Return whether a key of a config changes what is learned, other than by rounding on another device."""
    return not _HARMLESS.fullmatch(key)


class RunExistsError(ValueError):
    """A training was started in the folder of another run."""


class ChangedConfigError(ValueError):
    """A run was resumed with other settings."""


def lock_output_dir(folder: str) -> AbstractContextManager:
    """Create and lock the run's folder, on the main process for all ranks."""
    if not comm.is_main_process():
        return nullcontext()
    Path(folder).mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    return file_lock(Path(folder) / "lock")


def find_run(folder: str) -> str:
    """Return the name of a file that only a run with results or a checkpoint leaves in a folder, or ""."""
    names = (RESULTS, "last_checkpoint", "model_*.pth")
    return next((path.name for name in names for path in sorted(Path(folder).glob(name))), "")


def as_list(value: str | Sequence[str]) -> list[str]:
    """Return the items of a config's value that is one text or a list of them."""
    return [value] if isinstance(value, str) else list(value)


def describe_inputs(cfg: DictConfig) -> dict[str, str]:
    """Hash what a training reads and its config only names: key -> hash of the training labels, and of the weights."""
    name = cfg.dataset.train
    inputs = {"dataset.train": split_hash(get_dataset_dicts(name), MetadataCatalog.get(name).thing_classes)}
    if cfg.trainer.get("start_penalty") and cfg.train.init_checkpoint:  # read again by a resumed training
        with name_key("train.init_checkpoint"):
            inputs["train.init_checkpoint"] = _hash_weights([cfg.train.init_checkpoint])
    if "distiller" in cfg:
        for key in ("teacher_checkpoint", "trunk_checkpoint"):
            if cfg.distiller.get(key) is not None:
                with name_key(f"distiller.{key}"):
                    inputs[f"distiller.{key}"] = _hash_weights(as_list(cfg.distiller[key]))
    return inputs


def _hash_weights(checkpoints: Sequence[str]) -> str:
    # Of the weights, not of the files: pretrained:// writes its file anew, and torch.save puts its name into it.
    hashes = [hash_state(read_state(checkpoint)) for checkpoint in checkpoints]
    return hashlib.sha256(" ".join(hashes).encode()).hexdigest()[:16]


def check_start(cfg: DictConfig, inputs: dict[str, str], *, resume: bool, allow_changes: bool) -> list[str]:
    """Check that a training may start in its folder, and choose a random ``train.seed`` where it is negative.

    Args:
        cfg: its ``train.seed`` is set, when a run is resumed to the saved one.
        inputs: ``describe_inputs`` of ``cfg``.
        allow_changes: resume even if settings have changed.

    Returns:
        Settings that have changed since the run was started, as "key: old -> new"; empty for a new run.

    Raises:
        RunExistsError: the folder holds a run, and ``resume`` is False.
        ChangedConfigError: settings that change results have changed, and ``allow_changes`` is False.
        ValueError: the saved config is missing or damaged.
    """
    folder, found = Path(cfg.train.output_dir), find_run(cfg.train.output_dir)
    if found and not resume:
        raise RunExistsError(
            f"{folder} holds a run ({found}): continue it with --resume, set another train.output_dir or train.run, or "
            "delete the folder"
        )
    if not found:
        if cfg.train.seed < 0:
            cfg.train.seed = comm.shared_random_seed() % 2**31
        return []
    try:
        saved, old_inputs = _read_config(folder / CONFIG), read_inputs(folder / INPUTS)
    except (OSError, ValueError) as error:
        if allow_changes:
            return [f"{CONFIG}, {INPUTS}: cannot be compared -> as given"]
        hint = "give --allow-changes to continue without comparing the settings, or delete the folder"
        raise ValueError(
            f"{folder / CONFIG} or {INPUTS} of the run to resume cannot be read ({_first_line(error)}): {hint}"
        ) from error
    if cfg.train.seed < 0:
        cfg.train.seed = saved["train"]["seed"]
    changes = describe_changes(saved, _to_dict(cfg))
    changes += [
        f"content of {key}: {old_inputs.get(key)} -> {now}" for key, now in inputs.items() if old_inputs.get(key) != now
    ]
    if changes and not allow_changes:
        raise ChangedConfigError(
            f"{folder} was trained with other settings ({'; '.join(changes)}): give the old ones, set another "
            "train.output_dir, or continue with the new ones by --allow-changes"
        )
    return changes


def describe_changes(old: dict, new: dict) -> list[str]:
    """List settings that differ and can change results, as "key: old -> new".

    A value that refers to others is listed only if none of the others is. Both are configs as nested dicts.
    """
    before, now = (dict(_leaves(OmegaConf.to_container(OmegaConf.create(x), resolve=True))) for x in (old, new))
    texts = [dict(_leaves(x)) for x in (old, new)]
    changed = [key for key in {**before, **now} if before.get(key) != now.get(key) and changes_results(key)]
    direct = [key for key in changed if not all("${" in str(text.get(key)) for text in texts)]
    return [f"{key}: {_show(before, key)} -> {_show(now, key)}" for key in direct or changed]


def _show(values: dict[str, Any], key: str) -> str:
    return json.dumps(values[key], default=str) if key in values else "not set"


def _leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted keys and values; a list without dicts is one value."""
    if isinstance(node, list) and any(isinstance(value, dict) for value in node):
        node = {str(i): value for i, value in enumerate(node)}
    if isinstance(node, dict) and node:
        for name, value in node.items():
            yield from _leaves(value, f"{prefix}.{name}" if prefix else str(name))
    else:
        yield prefix, node


class _Loader(yaml.SafeLoader):
    """Reads YAML without building Python objects: a tagged node becomes its text."""


_Loader.add_multi_constructor(
    "tag:yaml.org,2002:python/", lambda loader, suffix, node: f"{suffix} {yaml.serialize(node)}"
)


def _read_config(path: Path) -> dict:
    check_file(path)
    try:
        content = yaml.load(path.read_text(), _Loader)
    except yaml.YAMLError as error:
        raise ValueError(f"not YAML: {_first_line(error)}") from error
    if not isinstance(content, dict) or not isinstance(content.get("train"), dict):
        raise ValueError("it has no section train")
    return content


def read_inputs(path: Path) -> dict[str, str]:
    """Read the hashes that a training has written; OSError or ValueError if they are missing or damaged."""
    check_file(path)
    content = json.loads(path.read_text())
    if not isinstance(content, dict):
        raise ValueError("it has no hashes")
    return content


def get_earlier_inputs(path: Path, inputs: dict[str, str]) -> dict[str, str]:
    """Return ``{EARLIER: hashes}`` of other labels that the run to resume was trained on; {} if there were none."""
    key = "dataset.train"
    with suppress(OSError, ValueError):
        before = read_inputs(path)
        changed = [before[key]] if before.get(key, inputs[key]) != inputs[key] else []
        if changed or EARLIER in before:
            return {EARLIER: " ".join([*before.get(EARLIER, "").split(), *changed])}
    return {}


def _to_dict(cfg: DictConfig) -> dict:
    """Return a config as it is when saved and read again."""
    with tempfile.TemporaryDirectory() as folder:
        LazyConfig.save(cfg, f"{folder}/{CONFIG}")
        return _read_config(Path(folder, CONFIG))


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def setup_run(cfg: DictConfig, args: Namespace, inputs: dict[str, str], *, keep_config: bool = False) -> logging.Logger:
    """Set up the loggers, save the config and ``inputs``, and seed the random numbers, which initialise the weights.

    As Detectron2's ``default_setup``, but a killed process leaves the old config or the complete new one, an evaluation
    keeps the config of the run that it evaluates (as with ``keep_config``), and tracebacks are in ``log.txt`` only.
    """
    folder, rank = cfg.train.output_dir, comm.get_rank()
    for name in ("fvcore", "detectron2", "wsd_distill"):
        logger = setup_logger(folder, distributed_rank=rank, name=name)
        for handler in logger.handlers:
            if getattr(handler, "stream", None) is sys.stdout:
                handler.addFilter(lambda record: not record.exc_info)
    logger.info("Rank of current process: %d. World size: %d", rank, comm.get_world_size())
    logger.info("Environment info:\n%s", collect_env_info())
    logger.info("Command line arguments: %s", args)
    if comm.is_main_process() and not keep_config and not (args.eval_only and find_run(folder)):
        path = Path(folder) / CONFIG
        with atomic_write(path) as tmp_path:
            LazyConfig.save(cfg, str(tmp_path))
        if not args.eval_only:
            content = {**inputs, **get_earlier_inputs(Path(folder) / INPUTS, inputs)} if args.resume else inputs
            with atomic_write(Path(folder) / INPUTS) as tmp_path:
                tmp_path.write_text(json.dumps(content))
        logger.info("Full config saved to %s", path)
    seed_all_rng(cfg.train.seed + rank)
    if not args.eval_only:  # it costs more than it saves on a small split
        torch.backends.cudnn.benchmark = cfg.train.cudnn_benchmark
    return logger


def drop_later_metrics(folder: str, start: int) -> None:
    """Remove iterations from ``start`` on, which are run again, and incomplete lines from ``metrics.json``."""
    path = Path(folder) / "metrics.json"
    if not path.exists():
        return
    kept = []
    for line in path.read_text(errors="replace").splitlines():
        try:
            if json.loads(line)["iteration"] < start:
                kept.append(line)
        except (ValueError, KeyError, TypeError):  # written by a process that was killed
            continue
    with atomic_write(path) as tmp_path:
        tmp_path.write_text("".join(f"{line}\n" for line in kept))
