"""Command lines of the tools: a config with overrides, and the datasets that it registers."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from detectron2.data import DatasetCatalog
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from ..data.datasets import get_splits
from .lazy_config import load_config

_OVERRIDE = re.compile(r"[^/=]+=")  # a word with a slash before its "=" is a file


def add_config_options(parser: argparse.ArgumentParser, text: str, *, required: bool = False) -> None:
    """Add ``--config-file`` with the help ``text``, and ``key=value`` anywhere."""
    parser.add_argument("--config-file", required=required, help=text)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="what to change in the config")


def parse_with_config(
    parser: argparse.ArgumentParser,
    *lists: str,
    read_classes: Callable[[argparse.Namespace], Sequence[str] | None] = lambda _: None,
) -> tuple[argparse.Namespace, DictConfig | None]:
    """Parse the command line and load the config, if one is given. An option ``--method`` sets ``proposals.method``.

    Args:
        lists: options with several values. argparse also gives them the overrides that follow, which are moved.
        read_classes: arguments -> ``class_names`` of ``load_config``.
    """
    arguments = parser.parse_intermixed_args()
    for name in lists:
        words = getattr(arguments, name) or []
        setattr(arguments, name, [word for word in words if not _OVERRIDE.match(word)])
        arguments.overrides += filter(_OVERRIDE.match, words)
    if getattr(arguments, "method", None):
        arguments.overrides.insert(0, f"proposals.method={arguments.method}")
    if not arguments.config_file:
        if arguments.overrides:
            parser.error(f"{' '.join(arguments.overrides)}: an override needs --config-file")
        return arguments, None
    with report_user_errors(parser):
        return arguments, load_config(arguments.config_file, arguments.overrides, read_classes(arguments))


def choose_datasets(parser: argparse.ArgumentParser, names: Sequence[str], cfg: DictConfig | None) -> list[str]:
    """Return registered datasets, each once: ``names``, or else the splits of the config."""
    if not names and cfg is None:
        parser.error("name datasets with --dataset, or a config with --config-file")
    names = names or get_splits(cfg)
    unknown = sorted(set(names) - set(DatasetCatalog.list()))
    if unknown:
        parser.error(f"not registered: {', '.join(unknown)}; there are {', '.join(sorted(DatasetCatalog.list()))}")
    return list(dict.fromkeys(names))


def check_method(parser: argparse.ArgumentParser, cfg: DictConfig, proposer: Any) -> None:
    """Require the generator that ``proposals.method`` names, since the stores of trainings are named after it."""
    if proposer.name != cfg.proposals.method:
        method = cfg.proposals.method
        parser.error(f"image_proposals.proposer is {proposer.name}, but proposals.method is {method}: set both alike")


@contextmanager
def report_user_errors(parser: argparse.ArgumentParser) -> Iterator[None]:
    """Turn errors that the user can fix, in the arguments or in a file, into one line and exit code 2."""
    try:
        yield
    except (OSError, ValueError, KeyError, OmegaConfBaseException) as error:
        text = error.args[0] if isinstance(error, KeyError) else error  # str(KeyError) has quotes around it
        parser.error((str(text) or type(error).__name__).splitlines()[0])
