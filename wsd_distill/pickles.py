"""Pickles of arrays, read without running code from the file."""

from __future__ import annotations

import os
import pickle
import pickletools
from collections import OrderedDict
from typing import Any, BinaryIO

import numpy as np

from .io import check_file


class _NdArray:
    """Stands for numpy.ndarray, which a pickle may name but not call."""


def _reconstruct(kind: Any, shape: Any, dtype: Any) -> np.ndarray:
    """Return an empty array, whose content follows; a pickle with another shape would allocate memory."""
    return np.zeros(0, "u1")


def _empty_bytes() -> bytes:
    return b""  # protocol 2 writes them as a call of bytes, with no argument


def _empty_dict(factory: Any = None) -> dict:
    return {}


def _scalar(dtype: Any, content: Any = b"") -> Any:
    """Return a NumPy number or text; without its content, NumPy would allocate what the type declares."""
    content = content.encode("latin1") if isinstance(content, str) else content  # of Python 2
    if not isinstance(dtype, np.dtype) or dtype.kind not in "biufcSU" or len(content) != dtype.itemsize:
        raise pickle.UnpicklingError(f"a scalar of type {dtype} with {len(content)} bytes")
    return _numpy_scalar(dtype, content)


_numpy_scalar: Any = np.float32(0).__reduce__()[0]
_ALLOWED_GLOBALS: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("collections", "defaultdict"): _empty_dict,
    ("builtins", "list"): list,  # the factory of a defaultdict
    ("builtins", "bytes"): _empty_bytes,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy.core.numeric", "_frombuffer"): np.zeros(1).__reduce_ex__(5)[0],
    ("numpy", "ndarray"): _NdArray,
    ("numpy", "dtype"): np.dtype,
    ("detectron2.structures.boxes", "BoxMode"): int,
    ("_codecs", "encode"): lambda text, encoding: text.encode("latin1"),  # bytes of an array, before protocol 3
}


class _ForbiddenImportError(pickle.UnpicklingError):
    """The pickle imports anything else than arrays, which could run code."""


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        module = module.replace("numpy._core.", "numpy.core.")  # renamed in NumPy 2
        key = "builtins" if module == "__builtin__" else module, name  # of Python 2
        if key in _ALLOWED_GLOBALS:
            return _ALLOWED_GLOBALS[key]
        raise _ForbiddenImportError(f"it imports '{module}.{name}'")


def load_pickle(path: str | os.PathLike) -> Any:
    """Read a pickle of builtin values, OrderedDicts, NumPy arrays and Detectron2's BoxMode (as an int).

    Strings and arrays of Python 2 are read too. A defaultdict becomes a dict.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: the file is not a pickle, or imports anything else, or would fill the memory.
    """
    check_file(path)
    with open(path, "rb") as file:
        try:
            _check_memo(file)
            file.seek(0)
            return _ArrayUnpickler(file, encoding="latin1").load()
        except _ForbiddenImportError as error:
            raise ValueError(f"{path} is refused: {error}, and only arrays are allowed") from error
        except Exception as error:  # an invalid file can raise anything
            raise ValueError(f"{path} is truncated or not a pickle of arrays: {error}") from error


def _check_memo(file: BinaryIO) -> None:
    """Raise UnpicklingError if an object has a number beyond its position in the file.

    Python allocates a table up to the largest number, so that seven bytes could ask for all of the memory.
    """
    for operation, argument, position in pickletools.genops(file):
        if operation.name in ("PUT", "LONG_BINPUT") and int(argument or 0) > (position or 0):
            raise pickle.UnpicklingError(f"it numbers an object at byte {position} as {argument}")
