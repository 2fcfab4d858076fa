"""LazyConfig files with overrides from the command line, and the dataset that ``dataset.name`` chooses."""

from __future__ import annotations

import difflib
import inspect
import re
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from detectron2.config import LazyConfig, instantiate
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils.registry import locate
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import OverrideParseException
from omegaconf import DictConfig, ListConfig, OmegaConf

from wsd_distill.class_names import describe_difference
from wsd_distill.data.datasets import (
    SPLITS,
    DatasetInfo,
    get_dataset_info,
    list_datasets,
    register_files,
    register_unlabelled,
    register_with_unlabelled,
    register_without_fold,
)
from wsd_distill.io import check_file, expand_user

from .override_types import convert

_SECTIONS = ("dataset", "proposals", "dataloader", "model", "optimizer", "lr_multiplier", "trainer", "train")
_HOME = re.compile(r"(^|[\[{,:]\s*)(~[^/\s,\]}'\"]*)(?=/)")  # at the start of a path in a value


class UnknownKeyError(KeyError):
    """A config does not have the key of an override; ``near`` are keys that it has."""

    def __init__(self, key: str, near: Sequence[str]):
        self.near = near
        super().__init__(f"the config has no key {key!r}{suggest(near)}")


def suggest(near: Sequence[str]) -> str:
    """Return "; did you mean ...?", or "" without near keys."""
    return f"; did you mean {' or '.join(near)}?" if near else ""


def load_config(file: str, overrides: Sequence[str] = (), class_names: Sequence[str] | None = None) -> DictConfig:
    """Load a recipe or the ``config.yaml`` of a run, apply overrides, register the dataset and fill in its settings.

    Args:
        class_names: classes of weights that will predict new images: the dataset is then registered only if it is
            known and its files exist, and otherwise these are its classes. So they are where a recipe presets a dataset
            with other classes.

    Raises:
        KeyError: no such key in the config, or no such dataset; names near ones.
        ValueError: the file is not a config of this project; an override is not ``key=value`` or its value has a wrong
            type; another dataset or other classes for a saved config.
        FileNotFoundError, ValueError: a file of the dataset is missing or wrong.
    """
    cfg = _read_config(file)
    saved = cfg.dataset.name if cfg.dataset.train is not None else None
    apply_overrides(cfg, method_first(overrides))
    _expand_paths(cfg)
    if OmegaConf.is_missing(cfg.dataset, "name"):
        if class_names is not None:
            cfg.dataset.name = "images"
        else:
            raise ValueError(
                f"set dataset.name to one of {', '.join(list_datasets())}, or to a name for your own files"
            )
    if cfg.proposals.method not in cfg.proposals.methods:
        raise ValueError(f"proposals.method={cfg.proposals.method}: choose from {', '.join(cfg.proposals.methods)}")
    if saved and cfg.dataset.name != saved:
        raise ValueError(
            f"{file} was saved by a run on dataset {saved}: for {cfg.dataset.name} use its recipe in configs"
        )
    is_preset = not saved and not any(override.startswith("dataset.") for override in overrides)
    _resolve_dataset(cfg, class_names, is_preset)
    return cfg


def _read_config(file: str) -> DictConfig:
    """Load a config of this project; raise ValueError that names the file, and the line of an error in Python code."""
    check_file(file)
    try:
        cfg = LazyConfig.load(file)
    except Exception as error:  # the file is code, which may raise anything
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.endswith(".py")]
        lines = [frame.lineno for frame in frames if frame.filename == file]
        text = (str(error) or "no message").splitlines()[0]
        place = f", line {lines[-1]}" if lines else ""
        raise ValueError(f"{file}{place} cannot be read as a config ({type(error).__name__}: {text})") from error
    present = list(cfg) if isinstance(cfg, DictConfig) and len(cfg) else []  # an empty file gives a None
    missing = [name for name in _SECTIONS if name not in present]
    if missing:
        text = f"{file} is not a config of tools/train_net.py: it has no section {', '.join(missing)}"
        raise ValueError(f"{text}. Start from a recipe in configs (docs/extending.md)")
    return cfg


def _expand_paths(node: DictConfig | ListConfig) -> None:
    """Replace ``~/`` and ``~name/`` at the start of any text by the home folder, in place."""
    for key in list(node) if isinstance(node, DictConfig) else range(len(node)):
        if OmegaConf.is_missing(node, key) or OmegaConf.is_interpolation(node, key):
            continue
        value = node[key]
        if isinstance(value, (DictConfig, ListConfig)):
            _expand_paths(value)
        elif isinstance(value, str) and value.startswith("~"):
            node[key] = expand_user(value)


def method_first(overrides: Sequence[str]) -> list[str]:
    """Sort the generator first, because ``image_proposals.proposer`` refers to it."""
    return sorted(overrides, key=lambda override: not override.startswith("proposals.method="))


def apply_overrides(cfg: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """Set ``a.b=value`` in ``cfg`` in place; a key below an interpolation changes the node that it refers to.

    A valid key is one of the config, or a parameter of the ``_target_`` beside it.

    Raises:
        UnknownKeyError: no such key; names near ones.
        ValueError: not of the form ``key=value``, or a value that cannot be parsed, has a wrong type or is out of
            range.
    """
    for override in overrides:
        key, separator, value = override.partition("=")
        if override.startswith("-"):
            raise ValueError(f"write {override} before the overrides")
        if not separator:
            raise ValueError(f"{override!r} is not an override: write key=value, for example train.epochs=20")
        prefix, _, name = key.rpartition(".")
        node = OmegaConf.select(cfg, prefix, throw_on_resolution_failure=False)
        if not _has_key(node, name):
            near = difflib.get_close_matches(key, list(_keys(OmegaConf.to_container(cfg))), n=3)
            raise UnknownKeyError(key, near)
        value = _HOME.sub(lambda found: found[1] + expand_user(f"{found[2]}/").rstrip("/"), value)
        try:
            (parsed,) = OverridesParser.create().parse_overrides([f"{name}={value}"])
        except OverrideParseException as error:
            raise ValueError(_describe_quoting(override, key)) from error
        if parsed.is_sweep_override():
            raise ValueError(_describe_quoting(override, key))
        OmegaConf.update(node, name, convert(key, value, parsed.value(), node, name), merge=True)
    return cfg


def _describe_quoting(override: str, key: str) -> str:
    return (
        f"the value of {override!r} cannot be parsed. Quote text with special characters, inside the shell's own "
        f"quotes: '{key}=\"a=b, c\"'"
    )


def _resolve_dataset(cfg: DictConfig, class_names: Sequence[str] | None, is_preset: bool) -> None:
    """Register ``cfg.dataset``; fields that are None are set from the registration of ``dataset.name``.

    Args:
        class_names: as in :func:`load_config`; a dataset that ``is_preset`` by the recipe gives way to them.
    """
    node = cfg.dataset
    try:
        info = _register_dataset(node)
    except (FileNotFoundError, KeyError):
        if class_names is None:
            raise
        info = _unregistered(node.name)
    known = MetadataCatalog.get(info.train).thing_classes if info.train in DatasetCatalog.list() else class_names
    if class_names is not None and is_preset and list(known or []) != list(class_names):
        node.name = "images"
        info = _unregistered(node.name)
    for key, value in asdict(info).items():
        if key in node and node[key] is None:
            node[key] = value
    if node.leave_out is not None and node.unlabelled is not None:
        raise ValueError(
            "dataset.leave_out is for teachers, which do not train on unlabelled images: leave out dataset.unlabelled "
            "and dataset.files.unlabelled"
        )
    if node.leave_out is not None and "distiller" in cfg:
        raise ValueError(
            "dataset.leave_out is for teachers and students without distillation: for cross-fitting, give the teachers "
            "of all folds in distiller.teacher_checkpoint"
        )
    if node.leave_out is not None:
        node.train = register_without_fold(node.train, node.leave_out)
    labelled = node.train.removesuffix(f"_with_{node.unlabelled}")  # a saved config has the name of both
    if {labelled, node.unlabelled} <= set(DatasetCatalog.list()):
        node.train = register_with_unlabelled(labelled, node.unlabelled, [node.val, node.test])
    if node.train in DatasetCatalog.list():
        class_names = MetadataCatalog.get(node.train).thing_classes
    elif isinstance(node.classes, ListConfig):
        class_names = node.classes
    _set_classes(node, list(class_names or []))
    edge_boxes = cfg.proposals.methods.edge_boxes.generator
    for key, value in info.edge_boxes.items():
        if key not in edge_boxes:
            edge_boxes[key] = value
    tests = cfg.dataloader.get("test") or DictConfig({})
    if node.val == node.test and "val" in tests:  # two splits only: F1 uses the threshold tuned on the test split
        del tests["val"]
        tests.test.evaluator.threshold_split = None
        if "loader" in cfg.lr_multiplier:  # of the validation loss
            cfg.lr_multiplier.loader = "${dataloader.test.test.loader}"


def _unregistered(name: str) -> DatasetInfo:
    return DatasetInfo(train=f"{name}_train", val=f"{name}_val", test=f"{name}_test")


def _register_dataset(node: DictConfig) -> DatasetInfo:
    for call in node.register:
        if not isinstance(call, DictConfig) or "_target_" not in call:
            raise ValueError(
                f"dataset.register has {call!r}: give calls, for example [{{_target_: module.function, key: value}}]"
            )
        try:
            instantiate(call)
        except TypeError as error:  # of its arguments
            raise ValueError(f"dataset.register: {error}") from error
    for key in ("files", "split_names"):
        if not isinstance(node[key], DictConfig):
            raise ValueError(
                f"dataset.{key}={node[key]}: set dataset.{key}.train, dataset.{key}.val, dataset.{key}.test"
            )
    if any(node.files[split] is not None for split in SPLITS):
        keys = ("image_root", "classes", "split_names", "separator", "allow_remote", "allow_outside")
        register_files(node.name, node.files, **{key: node[key] for key in keys})
    info = get_dataset_info(node.name)
    if node.files.unlabelled is not None:
        _register_unlabelled(node, MetadataCatalog.get(info.train).thing_classes)
    if node.unlabelled is not None and node.unlabelled not in DatasetCatalog.list():
        near = difflib.get_close_matches(node.unlabelled, DatasetCatalog.list(), n=2)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise KeyError(f"dataset.unlabelled={node.unlabelled}: no such registered dataset{hint}")
    return info


def _register_unlabelled(node: DictConfig, classes: Sequence[str]) -> None:
    """Register ``dataset.files.unlabelled`` and set ``dataset.unlabelled`` to its name."""
    name = f"{node.name}_unlabelled"
    if node.unlabelled not in (None, name):
        raise ValueError("set dataset.unlabelled or dataset.files.unlabelled, not both")
    root = node.image_root and str(node.image_root).replace("{split}", "unlabelled")
    split = node.split_names.unlabelled
    register_unlabelled(
        name,
        str(node.files.unlabelled),
        root,
        None if split is None else str(split),
        classes=classes,
        allow_remote=node.allow_remote,
        allow_outside=node.allow_outside,
    )
    node.unlabelled = name


def _set_classes(node: DictConfig, names: list[str]) -> None:
    """Set the classes that are None; raise ValueError if others, of a saved config or an override, differ."""
    if node.class_names is None:
        node.class_names = names
    elif list(node.class_names) != names:
        text = describe_difference(names, list(node.class_names), f"dataset {node.name} has", "dataset.class_names has")
        raise ValueError(f"the dataset has changed: {text}. Restore its files, or use the recipe in configs")
    if node.num_classes is None:
        node.num_classes = len(names)
    elif node.num_classes != len(names):
        text = f"dataset.num_classes={node.num_classes}, and dataset {node.name} has {len(names)} classes"
        raise ValueError(f"{text}: leave dataset.num_classes out")


def _has_key(node: Any, name: str) -> bool:
    if isinstance(node, ListConfig):
        return name.isdigit() and int(name) < len(node)
    if not isinstance(node, DictConfig):
        return False
    if name in list(node):  # "name in node" is False for a mandatory value that is missing ("???")
        return True
    target = node.get("_target_")
    target = locate(target) if isinstance(target, str) else target
    parameter = inspect.signature(target).parameters.get(name) if target else None
    return parameter is not None and parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)


def _keys(node: Any, prefix: str = "") -> Iterator[str]:
    """Dotted keys of nested dicts and lists."""
    for name, value in node.items() if isinstance(node, dict) else enumerate(node):
        yield f"{prefix}{name}"
        if isinstance(value, (dict, list)):
            yield from _keys(value, f"{prefix}{name}.")
