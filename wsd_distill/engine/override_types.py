"""Types and ranges of the values that overrides may set."""

from __future__ import annotations

import ast
import inspect
import math
import re
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from detectron2.utils.registry import locate
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException


class _Name(str):
    """Text that is never a number."""


# Keys whose default has no type.
_TYPES: dict[str, Any] = {
    r"dataset\.(files|split_names)\.(train|val|test)": typing.Optional[str],
    r"dataset\.(image_root|leave_out|train|val|test)": typing.Optional[str],
    r"dataset\.classes": typing.Union[None, str, list[str]],
    r"dataset\.num_classes|train\.max_iter|train\.checkpointer\.(period|max_to_keep)": typing.Optional[int],
    r"dataset\.(flip_prob|t_teacher|t_student)": typing.Optional[float],
    r"dataset\.boxes": typing.Optional[bool],
    r"train\.epochs": float,
    r"trainer\.(clip_norm|ema)": typing.Optional[float],
    r"train\.new_layers": list[_Name],
    r"train\.frozen": typing.Optional[list[_Name]],
}
_RANGES: list[tuple[str, float, float]] = [  # key, minimum, maximum
    (r"train\.(max_iter|log_period|checkpointer\.\w+)|dataset\.num_classes", 1, math.inf),
    (r"(.*\.)?(batch_size|total_batch_size|accumulate|num_proposals|max_boxes|subsample|pooler_size)", 1, math.inf),
    (r"(.*\.)?(num_workers|eval_period|lr|weight_decay|max_corrupt_images|start_batch|num_refinements)", 0, math.inf),
    (r"trainer\.start_penalty", 0, math.inf),
    (r"train\.epochs|(.*\.)?(clip_norm|t_teacher|t_student)", math.ulp(0), math.inf),
    (r"(.*\.)?(flip_prob|min_area|min_proposal_area)", 0, 1),
    (r"(.*\.)?(sizes|teacher_sizes)", 1, math.inf),  # each value of a list
]
_REFERENCE = re.compile(r"\$\{.+\}")
_NOT_EMPTY = (
    r"(.*\.)?(sizes|teacher_sizes|sides|pixel_mean|pixel_std|channels|convs|input_shape|out_features)"
    r"|distiller\.teacher_checkpoint"
)
_NAMES = {int: "an integer", float: "a number", bool: "True or False", str: "text", _Name: "a name", type(None): "null"}


class OverrideTypeError(ValueError):
    """The value of an override has the wrong type or is out of range."""


def convert(key: str, text: str, value: Any, parent: Any, name: str) -> Any:
    """Convert a value to the type that its key needs.

    The type is that of the parameter of ``_target_``, or else of the present value. Numbers given as text become
    numbers, whole numbers given as floats (1e3) become integers, and numbers where text is needed become their text.

    Args:
        key: dotted key. text: the value as it was given. value: parsed.
        parent: node of the config that gets the value as ``name``.

    Raises:
        OverrideTypeError: names the key, the value and the type or range.
    """
    hint = _wanted(key, parent, name)
    ok, converted = (True, value) if hint is Any else _fit(value, hint, text)
    if not ok:
        node = parent.get(name) if isinstance(parent, DictConfig) else None
        one = f", or set {key}.{next(iter(node))!s}" if isinstance(node, DictConfig) and len(node) else ""
        raise OverrideTypeError(f"{key}={text}: give {_describe(hint)}{_example(key, hint, text)}{one}")
    if re.fullmatch(_NOT_EMPTY, key) and isinstance(converted, (list, tuple)) and not converted:
        raise OverrideTypeError(f"{key}={text}: give {_describe(hint)} with at least one item")
    _check_range(key, text, converted)
    return converted


def _check_range(key: str, text: str, value: Any) -> None:
    for number in value if isinstance(value, (list, tuple)) else [value]:
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            continue
        for pattern, low, high in _RANGES:
            if re.fullmatch(pattern, key) and not low <= number <= high:
                least = "above 0" if low == math.ulp(0) else f"of at least {low:g}"
                limits = least if high == math.inf else f"from {low:g} to {high:g}"
                raise OverrideTypeError(f"{key}={text}: give a value {limits}")


def _wanted(key: str, parent: Any, name: str) -> Any:
    """Return the type of a key; Any if it is unknown."""
    for pattern, hint in _TYPES.items():
        if re.fullmatch(pattern, key):
            return hint
    hint = _annotation(parent, name) if isinstance(parent, DictConfig) else Any
    if hint is not Any and _is_plain(hint):
        return hint
    try:
        node = OmegaConf.select(parent, name) if isinstance(parent, DictConfig) else parent[int(name)]
    except OmegaConfBaseException:  # an interpolation of a value that is still missing
        return Any
    found = _type_of(node)
    if isinstance(node, DictConfig) and "_target_" in node:  # a call may be replaced by its value, a path for example
        value = _annotation(node, "return")
        if value in (str, int, float, bool):
            return typing.Union[value, dict]
    is_section = "." not in key or (hint is not Any and type(None) not in _parts(hint))
    return dict if found == typing.Optional[dict] and "_target_" in node and is_section else found


class _Unions(ast.NodeTransformer):
    """Replaces ``X | Y`` by ``Union[X, Y]``, which Python 3.9 needs."""

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        both = ast.Tuple([node.left, node.right], ast.Load())
        return ast.Subscript(ast.Name("Union", ast.Load()), both, ast.Load())


def _annotation(node: DictConfig, name: str) -> Any:
    """Return the annotation of a call's parameter ``name``, or of its ``return``; Any if none can be evaluated."""
    target = node.get("_target_")
    if not target:
        return Any
    target = locate(target) if isinstance(target, str) else target
    function = inspect.unwrap(target.__init__ if inspect.isclass(target) else target)
    hint = getattr(function, "__annotations__", {}).get(name, Any)
    return evaluate_hint(hint, function.__globals__) if isinstance(hint, str) else hint


def evaluate_hint(hint: str, names: Mapping[str, Any]) -> Any:
    """Return the type that an annotation describes; Any if it has a name that only a type checker imports."""
    tree = ast.fix_missing_locations(_Unions().visit(ast.parse(hint, mode="eval")))
    try:
        return eval(compile(tree, "<annotation>", "eval"), {**names, "Union": typing.Union})
    except (NameError, AttributeError, TypeError):
        return Any


def _type_of(value: Any) -> Any:
    """Return the type of a value that is replaced; Any for null and a list of other than scalars."""
    if isinstance(value, (DictConfig, dict)):
        return typing.Optional[dict]
    if isinstance(value, (ListConfig, list, tuple)):
        kinds = {type(item) for item in value}
        if len(kinds) == 1 and kinds <= {int, float, bool, str}:
            return list[kinds.pop()]  # type: ignore[misc]
        return list[float] if kinds == {int, float} else list
    return type(value) if isinstance(value, (bool, int, float, str)) else Any


def _parts(hint: Any) -> tuple[Any, ...]:
    union = typing.get_origin(hint) in (typing.Union, getattr(types, "UnionType", typing.Union))
    return typing.get_args(hint) if union else (hint,)


def _is_plain(hint: Any) -> bool:
    """Whether a type has only scalars and containers, so that a config can hold its values."""
    known = (int, float, bool, str, dict, list, tuple, type(None), Sequence, Mapping, typing.Literal)
    return all(part in known or typing.get_origin(part) in known for part in _parts(hint))


def _fit(value: Any, hint: Any, text: str) -> tuple[bool, Any]:
    """Return whether a value has a type, and the value converted to it."""
    parts = sorted(_parts(hint), key=lambda part: part is str)  # a number stays a number where both fit
    for part in parts:
        ok, converted = _fit_one(value, part, text)
        if ok:
            return True, converted
    return False, value


def _fit_one(value: Any, hint: Any, text: str) -> tuple[bool, Any]:
    origin, arguments = typing.get_origin(hint) or hint, typing.get_args(hint)
    if hint is type(None):
        return value is None, value
    if origin is typing.Literal:
        return value in arguments, value
    if hint is bool:
        return isinstance(value, bool), value
    if hint in (int, float):
        return _fit_number(value, hint)
    if hint is _Name:
        return isinstance(value, str), value
    if hint is str:
        is_scalar = isinstance(value, (str, int, float)) and not isinstance(value, bool)
        return is_scalar, value if isinstance(value, str) else text
    if origin in (dict, Mapping):
        return isinstance(value, dict) or (isinstance(value, str) and bool(_REFERENCE.fullmatch(value))), value
    if not isinstance(value, (list, tuple)):
        return False, value
    items = [item for item in arguments if item is not Ellipsis]
    if not items:
        return True, value
    found = [_fit(item, items[min(i, len(items) - 1)], str(item)) for i, item in enumerate(value)]
    return all(ok for ok, _ in found), [item for _, item in found]


def _fit_number(value: Any, kind: type) -> tuple[bool, Any]:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return False, value
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return False, value
    if kind is int:
        return value == int(value), int(value)
    return True, value


def _describe(hint: Any) -> str:
    names: list[str] = []
    for part in _parts(hint):
        origin, arguments = typing.get_origin(part) or part, typing.get_args(part)
        if arguments == (_Name,):
            names.append("a list of names")
        elif origin is typing.Literal:
            names += map(str, arguments)
        elif part in _NAMES:
            names.append(_NAMES[part])
        elif origin in (dict, Mapping):
            names.append("key: value pairs in braces")
        else:
            kinds = {_describe(item).partition(" ")[2] for item in arguments if item in (int, float)}
            names.append(f"a list{f' of {kinds.pop()}s' if len(kinds) == 1 else ''}")
    return " or ".join(dict.fromkeys(names))


def _example(key: str, hint: Any, text: str) -> str:
    if text.lower() in ("true", "false") and str in _parts(hint):
        return f", in quotes if it is a word: '\"{text}\"'"
    is_list = any((typing.get_origin(part) or part) in (list, tuple, Sequence) for part in _parts(hint))
    number = re.fullmatch(r"[\d.]+", text)
    if key.endswith(("crop_scale", "crop_ratio")) and number:
        return f", for example [{text},1.0]"
    return f", for example [{text}]" if is_list and not text.startswith(("[", "{")) else ""
