"""Files written by the protobuf library, in the layout of 2014 and in the later one."""

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
