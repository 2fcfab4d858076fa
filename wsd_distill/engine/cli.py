"""Command lines of the tools: a config with overrides, and the datasets that it registers."""

from __future__ import annotations

import argparse
import inspect
import logging
import os
import re
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from detectron2.config import instantiate
from detectron2.data import DatasetCatalog
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from ..data.datasets import get_splits
from ..io import expand_user
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
    arguments = expand_paths(parser.parse_intermixed_args())
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
def report_user_errors(parser: argparse.ArgumentParser) -> Iterator[Callable[[logging.Logger, str], None]]:
    """Turn errors that the user can fix, in the arguments or in a file, into one line and exit code 2.

    Yields:
        A function: logger and the folder of its ``log.txt``, to which tracebacks of later errors are written.
    """
    logs: list[tuple[logging.Logger, str]] = []
    try:
        yield lambda logger, folder: logs.append((logger, folder))
    except Exception as error:
        if not _is_user_error(error):
            raise
        text = describe_error(error)
        for logger, folder in logs:
            logger.error(text, exc_info=True)
            text += f" (traceback: {os.path.join(folder, 'log.txt')})"
        parser.exit(2, f"{parser.prog}: error: {text}\n")  # parser.error prints the usage first


def _is_user_error(error: Exception) -> bool:
    if isinstance(error, (TypeError, AttributeError)):  # wrong arguments of a call that the config describes
        return Path(inspect.getfile(instantiate)) in [
            Path(frame.filename) for frame in traceback.extract_tb(error.__traceback__)[-2:]
        ]
    return isinstance(error, (OSError, ValueError, KeyError, RuntimeError, ArithmeticError, OmegaConfBaseException))


def describe_error(error: Exception) -> str:
    """Return the message of an error as one line, that of a DataLoader's worker without its traceback."""
    text = str(error.args[0] if isinstance(error, KeyError) and error.args else error)  # str(KeyError) adds quotes
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [type(error).__name__]
    if isinstance(error, TypeError):
        return f"the config has a wrong argument: {lines[0]}"
    if lines[0].startswith("Caught ") and "DataLoader worker" in lines[0]:
        return lines[-1].partition(": ")[2] or lines[-1]
    return " ".join(lines)[:1000] if lines[0].endswith(":") else lines[0]


def expand_paths(arguments: argparse.Namespace) -> argparse.Namespace:
    """Replace ``~/`` and ``~name/`` at the start of the values of all options, also in lists, by the home folder."""
    for name, value in vars(arguments).items():
        setattr(arguments, name, _expand(value))
    return arguments


def _expand(value: Any) -> Any:
    if isinstance(value, list):
        return [_expand(item) for item in value]
    return type(value)(expand_user(str(value))) if isinstance(value, (str, Path)) else value
