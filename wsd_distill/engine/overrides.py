"""Overrides of a LazyConfig from the command line, of which a mistyped one is an error."""

from __future__ import annotations

import difflib

from detectron2.config import LazyConfig
from hydra.errors import OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException, ValidationError


def apply_overrides(cfg: DictConfig, overrides: list[str]) -> DictConfig:
    """Set ``a.b=value`` in ``cfg`` in place.

    Raises:
        KeyError: the config has no such key; names the nearest ones.
        ValueError: not of the form ``key=value``, or a value that cannot be read.
    """
    OmegaConf.set_struct(cfg, True)
    for override in overrides:
        if "=" not in override:
            raise ValueError(f"{override!r} is no override: write key=value, for example train.max_iter=1000")
        key = override.split("=", 1)[0]
        try:
            LazyConfig.apply_overrides(cfg, [override])
        except (OverrideParseException, ValidationError) as error:
            raise ValueError(
                f"the value of {override!r} cannot be read. Quote text with special characters, within the shell's own "
                f"quotes: '{key}=\"a=b, c\"'"
            ) from error
        except (OmegaConfBaseException, KeyError) as error:
            near = difflib.get_close_matches(key, list(_keys(OmegaConf.to_container(cfg))), n=3)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise KeyError(f"the config has no key {key!r}{hint}") from error
    OmegaConf.set_struct(cfg, False)
    return cfg


def _keys(node, prefix: str = ""):
    """Every dotted key of nested dicts and lists."""
    for name, value in node.items() if isinstance(node, dict) else enumerate(node):
        yield f"{prefix}{name}"
        if isinstance(value, (dict, list)):
            yield from _keys(value, f"{prefix}{name}.")
