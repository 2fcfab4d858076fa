"""Files that the real protobuf library writes, in the layout of 2014 and in the later one."""

import numpy as np
import pytest
from helpers.caffe_files import write_caffemodel

from wsd_distill.modeling.checkpoints import read_caffemodel


def layers():
    rng = np.random.default_rng(0)
    shapes = {"conv1_1": [(4, 3, 3, 3), (4,)], "fc6": [(6, 300), (6,)], "relu": []}
    return {name: [rng.standard_normal(s).astype(np.float32) for s in blobs] for name, blobs in shapes.items()}


@pytest.mark.parametrize("old", [True, False])
def test_names_shapes_and_numbers(old, tmp_path):
    write_caffemodel(tmp_path / "net.caffemodel", layers(), old=old)
    found, wanted = read_caffemodel(tmp_path / "net.caffemodel"), layers()
    assert list(found) == ["conv1_1", "fc6"]
    for name, blobs in found.items():
        for ours, theirs in zip(blobs, wanted[name]):
            shape = (1,) * (4 - theirs.ndim) + theirs.shape if old else theirs.shape
            assert ours.dtype == np.float32 and ours.shape == shape
            np.testing.assert_array_equal(ours.reshape(theirs.shape), theirs)


def test_a_file_that_is_cut_short_or_something_else(tmp_path):
    path = tmp_path / "net.caffemodel"
    write_caffemodel(path, layers(), old=True)
    whole = path.read_bytes()
    for part in (whole[:-10], whole[: len(whole) // 3]):
        path.write_bytes(part)
        with pytest.raises(ValueError, match="net.caffemodel is truncated or not a valid caffemodel"):
            read_caffemodel(path)
    path.write_text("name: 'VGG'\ninput: 'data'\n")
    with pytest.raises(ValueError, match="net.caffemodel"):
        read_caffemodel(path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="net.caffemodel has no layer"):
        read_caffemodel(path)
