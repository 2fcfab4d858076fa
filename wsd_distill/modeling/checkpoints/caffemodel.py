"""Reader of ``.caffemodel`` files that does not need Caffe."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory, text_format

from wsd_distill.io import check_file

MAX_DIMS = 32  # as in Caffe
MAX_LAYERS, MAX_BLOBS = 10_000, 100  # published networks have up to 1,000 layers, of up to 5 blobs

# The part of caffe.proto with weights. Files of 2014, such as the published VGG16, have V1 layers and blobs with four
# sizes instead of a shape. BlobProto.data is declared as bytes, which NumPy reads directly: packed floats in the file.
SCHEMA = """
name: "caffe.proto"
package: "caffe"
message_type { name: "BlobShape" field { name: "dim" number: 1 label: LABEL_REPEATED type: TYPE_INT64 } }
message_type {
  name: "BlobProto"
  field { name: "num" number: 1 type: TYPE_INT32 default_value: "1" }
  field { name: "channels" number: 2 type: TYPE_INT32 default_value: "1" }
  field { name: "height" number: 3 type: TYPE_INT32 default_value: "1" }
  field { name: "width" number: 4 type: TYPE_INT32 default_value: "1" }
  field { name: "data" number: 5 type: TYPE_BYTES }
  field { name: "shape" number: 7 type: TYPE_MESSAGE type_name: "BlobShape" }
}
message_type {
  name: "V1LayerParameter"
  field { name: "name" number: 4 type: TYPE_STRING }
  field { name: "blobs" number: 6 label: LABEL_REPEATED type: TYPE_MESSAGE type_name: "BlobProto" }
}
message_type {
  name: "LayerParameter"
  field { name: "name" number: 1 type: TYPE_STRING }
  field { name: "blobs" number: 7 label: LABEL_REPEATED type: TYPE_MESSAGE type_name: "BlobProto" }
}
message_type {
  name: "NetParameter"
  field { name: "layers" number: 2 label: LABEL_REPEATED type: TYPE_MESSAGE type_name: "V1LayerParameter" }
  field { name: "layer" number: 100 label: LABEL_REPEATED type: TYPE_MESSAGE type_name: "LayerParameter" }
}
"""


def read_caffemodel(path: str | Path) -> dict[str, list[np.ndarray]]:
    """Read the blobs (float32, usually weight and bias) of each layer that has any, by layer name.

    Memory is bounded by the size of the file: layers, blobs and dimensions
    are limited, and a blob's shape must fit its data.

    Raises:
        FileNotFoundError: The file is missing.
        ValueError: The file is truncated or not a valid caffemodel, or no regular file (``check_file``).
    """
    check_file(path)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(text_format.Parse(SCHEMA, descriptor_pb2.FileDescriptorProto()))
    net = message_factory.GetMessageClass(pool.FindMessageTypeByName("caffe.NetParameter"))()
    try:
        net.ParseFromString(Path(path).read_bytes())
        layers = [layer for part in (net.layers, net.layer) for layer in _bounded(part, MAX_LAYERS, "layers")]
        found = {x.name: [_array(blob) for blob in _bounded(x.blobs, MAX_BLOBS, "blobs")] for x in layers if x.blobs}
    except (message.DecodeError, ValueError) as error:
        raise ValueError(f"{path} is truncated or not a valid caffemodel ({error}): download it again") from error
    if not found:
        raise ValueError(f"{path} has no layer with weights: give a caffemodel, not a prototxt")
    return found


def _bounded(items: Any, limit: int, kind: str) -> Any:
    """Return ``items``; raise ValueError if a file of a few megabytes has millions of them."""
    if len(items) > limit:
        raise ValueError(f"it has {len(items)} {kind}, more than {limit}")
    return items


def _array(blob: Any) -> np.ndarray:
    if len(blob.shape.dim) > MAX_DIMS:
        raise ValueError(f"a blob has {len(blob.shape.dim)} dimensions")
    legacy = (blob.num, blob.channels, blob.height, blob.width)
    shape = tuple(blob.shape.dim) if blob.HasField("shape") else legacy
    data = np.frombuffer(blob.data, dtype="<f4")
    if min(shape, default=1) < 0 or math.prod(shape) != len(data):
        raise ValueError(f"a blob of shape {shape} has {len(data)} values")
    return data.reshape(shape)
