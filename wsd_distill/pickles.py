"""Pickles of arrays, read without running code from the file."""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from typing import Any

import numpy as np

from .io import check_file

_ALLOWED_GLOBALS: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("numpy.core.multiarray", "_reconstruct"): np.zeros(1).__reduce__()[0],
    ("numpy.core.multiarray", "scalar"): np.float32(0).__reduce__()[0],
    ("numpy.core.numeric", "_frombuffer"): np.zeros(1).__reduce_ex__(5)[0],
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("detectron2.structures.boxes", "BoxMode"): int,
    ("_codecs", "encode"): lambda text, encoding: text.encode("latin1"),  # bytes of an array, before protocol 3
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        key = module.replace("numpy._core.", "numpy.core."), name  # renamed in NumPy 2
        if key in _ALLOWED_GLOBALS:
            return _ALLOWED_GLOBALS[key]
        raise pickle.UnpicklingError(f"it imports '{module}.{name}', and only arrays are allowed")


def load_pickle(path: str | os.PathLike) -> Any:
    """Read a pickle of builtin values, OrderedDicts, NumPy arrays and Detectron2's BoxMode (as an int).

    Strings and arrays of Python 2 are read too.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: the file is not a pickle, or imports anything else.
    """
    check_file(path)
    with open(path, "rb") as file:
        try:
            return _ArrayUnpickler(file, encoding="latin1").load()
        except Exception as error:  # an invalid file can raise anything
            raise ValueError(f"{path} is truncated or not a pickle of arrays: {error}") from error
