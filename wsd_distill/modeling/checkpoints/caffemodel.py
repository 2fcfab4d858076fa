"""Reader of ``.caffemodel`` files that does not need Caffe.

The file is one protobuf message NetParameter. These fields of Caffe's schema (``caffe.proto``) are used:
NetParameter.layers = 2 (V1LayerParameter: name = 4, blobs = 6) in files of 2014, such as the published VGG16, or
NetParameter.layer = 100 (LayerParameter: name = 1, blobs = 7) in later ones; BlobProto.data = 5 (packed floats) with
shape = 7 (BlobShape.dim = 1, packed) or, before that, num, channels, height, width = 1 to 4.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

LAYERS = {2: (4, 6), 100: (1, 7)}  # field of NetParameter -> fields of the layer's name and blobs
VARINT, BYTES, FIXED_SIZES = 0, 2, {1: 8, 5: 4}  # wire types; those of fixed size with their bytes


def read_caffemodel(path: str | Path) -> dict[str, list[np.ndarray]]:
    """Read the blobs (float32, usually weight and bias) of each layer that has any, by layer name.

    Raises:
        ValueError: The file is truncated or not a valid caffemodel.
    """
    try:
        layers = [_layer(body, *LAYERS[field]) for field, body in _fields(_content(path)) if field in LAYERS]
    except (IndexError, ValueError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is truncated or not a valid caffemodel ({error}): download it again") from error
    found = {name: blobs for name, blobs in layers if blobs}
    if not found:
        raise ValueError(f"{path} has no layer with weights: give a caffemodel, not a prototxt")
    return found


def _content(path: str | Path) -> memoryview:
    return memoryview(Path(path).read_bytes())


def _layer(body: memoryview, name_field: int, blobs_field: int) -> tuple[str, list[np.ndarray]]:
    name, blobs = "", []
    for field, value in _fields(body):
        if field == name_field:
            name = bytes(value).decode()
        elif field == blobs_field:
            blobs.append(_blob(value))
    return name, blobs


def _blob(body: memoryview) -> np.ndarray:
    data, legacy, shape = np.empty(0, dtype="<f4"), {}, None
    for field, value in _fields(body):
        if field == 5:
            data = np.frombuffer(value, dtype="<f4")
        elif field in (1, 2, 3, 4):
            legacy[field] = value
        elif field == 7:
            shape = _dims(value)
    shape = [legacy.get(i, 1) for i in (1, 2, 3, 4)] if shape is None else shape
    if math.prod(shape) != len(data):
        raise ValueError(f"a blob of shape {shape} has {len(data)} values")
    return data.reshape(shape)


def _dims(body: memoryview) -> list[int]:
    dims = []
    for field, packed in _fields(body):
        position = 0
        while field == 1 and position < len(packed):
            value, position = _varint(packed, position)
            dims.append(value)
    return dims


def _fields(body: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield number and value of each field: an int, or the bytes of a string, a message or a packed list."""
    position = 0
    while position < len(body):
        key, position = _varint(body, position)
        kind = key & 7
        if kind == VARINT:
            value, position = _varint(body, position)
            yield key >> 3, value
            continue
        if kind == BYTES:
            size, position = _varint(body, position)
        elif kind in FIXED_SIZES:
            size = FIXED_SIZES[kind]
        else:
            raise ValueError(f"unknown wire type {kind}")
        if position + size > len(body):
            raise ValueError("the data ends within a field")
        yield key >> 3, body[position : position + size]
        position += size


def _varint(body: memoryview, position: int) -> tuple[int, int]:
    """Decode a base-128 varint; return the number and the position after it."""
    value = shift = 0
    while True:
        byte = body[position]
        value |= (byte & 127) << shift
        position, shift = position + 1, shift + 7
        if byte < 128:
            return value, position
