"""Files written by the protobuf library, in the layout of 2014 and in the later one."""

import os
import time

import numpy as np
import pytest
from helpers.caffe_files import write_caffemodel

from wsd_distill.modeling.checkpoints.caffemodel import read_caffemodel


def layers():
    rng = np.random.default_rng(0)
    shapes = {"conv1_1": [(4, 3, 3, 3), (4,)], "fc6": [(6, 300), (6,)], "relu": []}
    return {name: [rng.standard_normal(s).astype(np.float32) for s in blobs] for name, blobs in shapes.items()}


@pytest.mark.parametrize("old", [True, False])
def test_names_shapes_and_numbers(old, tmp_path):
    write_caffemodel(tmp_path / "net.caffemodel", layers(), old=old)
    found, expected = read_caffemodel(tmp_path / "net.caffemodel"), layers()
    assert list(found) == ["conv1_1", "fc6"]
    for name, blobs in found.items():
        for blob, array in zip(blobs, expected[name]):
            shape = (1,) * (4 - array.ndim) + array.shape if old else array.shape
            assert blob.dtype == np.float32 and blob.shape == shape
            np.testing.assert_array_equal(blob.reshape(array.shape), array)


def test_truncated_and_invalid_files(tmp_path):
    path = tmp_path / "net.caffemodel"
    write_caffemodel(path, layers(), old=True)
    content = path.read_bytes()
    for part in (content[:-10], content[: len(content) // 3]):
        path.write_bytes(part)
        with pytest.raises(ValueError, match="net.caffemodel is truncated or not a valid caffemodel"):
            read_caffemodel(path)
    path.write_text("name: 'VGG'\ninput: 'data'\n")
    with pytest.raises(ValueError, match="net.caffemodel"):
        read_caffemodel(path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="net.caffemodel has no layer"):
        read_caffemodel(path)


def varint(number):
    """Encode as protobuf does: 7 bits in a byte, the lowest first."""
    low, rest = number & 127, number >> 7
    return bytes([low | 128]) + varint(rest) if rest else bytes([low])


def field(number, data):
    """A field with bytes: key, length and data."""
    return varint(number << 3 | 2) + varint(len(data)) + data


def blob(shape, data=bytes(4)):
    return field(100, field(1, b"x") + field(7, field(7, field(1, shape)) + field(5, data)))


@pytest.mark.parametrize(
    "content, message",
    [
        (b"\xff" * 5_000_000, "not a valid caffemodel"),
        (blob(b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f" * 550_000), "a blob has 550000 dimensions"),
        (blob(varint(2**40)), r"a blob of shape \(1099511627776,\) has 1 values"),
        (blob(varint(2**64 - 1) * 2), r"a blob of shape \(-1, -1\) has 1 values"),
        (field(100, b"") * 2_500_000, "it has 2500000 layers"),
        (field(100, field(1, b"x") + field(7, b"") * 2_000_000), "it has 2000000 blobs"),
        (field(100, b"x")[:-2] + varint(2**40), "not a valid caffemodel"),
    ],
    ids=["varint", "dimensions", "size", "negative", "layers", "blobs", "length"],
)
def test_hostile_files_end_in_seconds(content, message, tmp_path):
    (tmp_path / "net.caffemodel").write_bytes(content)
    start = time.perf_counter()
    with pytest.raises(ValueError, match=rf"net.caffemodel .*{message}"):
        read_caffemodel(tmp_path / "net.caffemodel")
    assert time.perf_counter() - start < 10


def test_a_pipe_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "net.caffemodel")
    with pytest.raises(ValueError, match="net.caffemodel is a pipe, socket or device"):
        read_caffemodel(tmp_path / "net.caffemodel")
