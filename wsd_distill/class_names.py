"""Class names as a part of a ``state_dict``.

The entry is ``class_names_<n>``: a list of names in JSON, as n bytes. The length is in the key because Detectron2's
checkpointer drops entries of another shape before the model can compare them. ImageNet weights have an empty list.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

MAX_BYTES = 10_000_000
_KEY = re.compile(r"class_names_(\d+)")


def check_class_names(names: Sequence[str], num_classes: int) -> list[str]:
    """Return ``names`` as a list.

    Raises:
        ValueError: a name is not text or empty, two are equal, or there are not ``num_classes``.
    """
    names = list(names)
    invalid = [name for name in names if not isinstance(name, str) or not name.strip()]
    repeated = sorted({name for name in names if names.count(name) > 1}) if not invalid else []
    if invalid or repeated:
        raise ValueError(f"class_names has {(invalid or repeated)[0]!r}: set one name for each class, all different")
    if len(names) != num_classes:
        text = f"class_names has {len(names)} names ({_shorten(names)}), and num_classes is {num_classes}"
        raise ValueError(f"{text}: set both to the classes of the dataset")
    return names


def class_names_state(names: Sequence[str]) -> dict[str, Tensor]:
    """Return the ``state_dict`` entry of ``names``; uint8 of shape (n,)."""
    data = json.dumps(list(names), ensure_ascii=False).encode()
    return {f"class_names_{len(data)}": torch.tensor(list(data), dtype=torch.uint8)}


def read_class_names(state: Mapping[str, Any]) -> list[str] | None:
    """Read the class names of a ``state_dict``; [] of ImageNet weights, None if there is no entry.

    Raises:
        ValueError: the entry is damaged, or there are several.
    """
    keys = [key for key in state if _KEY.fullmatch(key)]
    if not keys:
        return None
    value, size = state[keys[0]], int(keys[0].rpartition("_")[2])
    if len(keys) > 1 or size > MAX_BYTES or value.dtype != torch.uint8 or tuple(value.shape) != (size,):
        raise ValueError(f"the class names of the weights ({', '.join(keys)}) are damaged: write the file again")
    try:
        names = json.loads(bytes(value.tolist()))
        if not isinstance(names, list):
            raise ValueError("not a list")
        return check_class_names(names, len(names))
    except ValueError as error:
        raise ValueError(f"the class names of the weights ({keys[0]}) are damaged: write the file again") from error


def is_class_names_key(key: str) -> bool:
    """Whether ``key`` is the key of a ``state_dict`` entry with class names."""
    return _KEY.fullmatch(key) is not None


def describe_difference(
    ours: Sequence[str], theirs: Sequence[str], our_name: str = "the model has", their_name: str = "the weights have"
) -> str:
    """Describe how two lists of class names differ, the second one first."""
    text = f"{their_name} {len(theirs)} classes ({_shorten(theirs)}), {our_name} {len(ours)} ({_shorten(ours)})"
    differing = [k for k, (a, b) in enumerate(zip(theirs, ours)) if a != b]
    if differing:
        pairs = ", ".join(f"{k}: {theirs[k]!r} and {ours[k]!r}" for k in differing[:3])
        text += f"; first different at {pairs}"
    if sorted(ours) == sorted(theirs):
        text += "; the same names in another order"
    return text


def _shorten(names: Sequence[str], limit: int = 10) -> str:
    shown = ", ".join(str(name) for name in names[:limit])
    return shown + (f", ... {names[-1]}" if len(names) > limit else "")
