"""What the tools' command lines share: a config, overrides of it, and the datasets that are registered then."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from detectron2.config import LazyConfig
from detectron2.data import DatasetCatalog
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from ..data.datasets import get_splits, register_from_config
from .overrides import apply_overrides


def add_config_options(parser: argparse.ArgumentParser, text: str, *, required: bool = False) -> None:
    """``--config-file``, of which ``text`` says what it is for, and ``key=value`` anywhere."""
    parser.add_argument("--config-file", required=required, help=text)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="what to change in the config")


def parse_with_config(parser: argparse.ArgumentParser, *lists: str) -> tuple[argparse.Namespace, DictConfig | None]:
    """The arguments; the config, its overrides applied and its datasets registered, or None where none is given.

    Args:
        lists: options of several words. argparse gives them all that stands behind them, overrides too; those are
            taken out again. A word with a slash before its ``=`` is none, but a file.
    """
    arguments = parser.parse_intermixed_args()
    for name in lists:
        words = getattr(arguments, name) or []
        setattr(arguments, name, [word for word in words if not _is_override(word)])
        arguments.overrides += filter(_is_override, words)
    if not arguments.config_file:
        if arguments.overrides:
            parser.error(f"{' '.join(arguments.overrides)}: without --config-file there is nothing to change")
        return arguments, None
    with report_user_errors(parser):
        cfg = apply_overrides(LazyConfig.load(arguments.config_file), arguments.overrides)
        register_from_config(cfg)
    return arguments, cfg


def choose_datasets(parser: argparse.ArgumentParser, names: Sequence[str], cfg: DictConfig | None) -> list[str]:
    """Registered datasets, each once: ``names`` or, where there are none, those of the config."""
    if not names and cfg is None:
        parser.error("name datasets with --dataset, or a config with --config-file")
    with report_user_errors(parser):
        names = names or get_splits(cfg)
    unknown = sorted(set(names) - set(DatasetCatalog.list()))
    if unknown:
        parser.error(f"not registered: {', '.join(unknown)}; there are {', '.join(sorted(DatasetCatalog.list()))}")
    return list(dict.fromkeys(names))


def load_datasets(parser: argparse.ArgumentParser, names: Iterable[str]) -> dict[str, list[dict]]:
    """Dataset dicts by name; files of a dataset that are missing or wrong are an error of the arguments."""
    with report_user_errors(parser):
        return {name: DatasetCatalog.get(name) for name in names}


def check_method(parser: argparse.ArgumentParser, cfg: DictConfig, proposer: object) -> None:
    """A ``proposer`` that is not the one whose stores the config's trainings read is an error of the arguments."""
    if "proposals" in cfg and proposer.name != cfg.proposals.method:
        method = cfg.proposals.method
        parser.error(f"image_proposals.proposer is {proposer.name}, but proposals.method is {method}: set both alike")


@contextmanager
def report_user_errors(parser: argparse.ArgumentParser) -> Iterator[None]:
    """What a user mends in the arguments, or in a file that they name, ends the tool without a traceback."""
    try:
        yield
    except (OSError, ValueError, KeyError, OmegaConfBaseException) as error:
        text = error.args[0] if isinstance(error, KeyError) else error  # str(KeyError) has quotes around it
        parser.error((str(text) or type(error).__name__).splitlines()[0])


def _is_override(word: str) -> bool:
    return re.match(r"[^/=]+=", word) is not None
