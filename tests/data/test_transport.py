import os
import pickle

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances
from torch.utils.data import DataLoader

from wsd_distill.data.mix import Mix
from wsd_distill.data.transport import SharedBatch, collate


def make_image(i):
    proposals = Instances((8, 8))
    proposals.proposal_boxes = Boxes(torch.full((i, 4), float(i)))
    proposals.rows = torch.arange(i)
    pixels = torch.full((3, 8, 8), i, dtype=torch.uint8)
    labels = torch.tensor([-1.0, 0.0, float(i)])
    return {
        "image_id": i,
        "image": pixels,
        "labels": labels,
        "proposals": proposals,
        "mix": Mix("mixup", np.array([i, i])),
    }


def assert_same(image, expected):
    assert image.keys() == expected.keys() and image["image_id"] == expected["image_id"]
    for name in ("image", "labels"):
        assert image[name].dtype == expected[name].dtype
        torch.testing.assert_close(image[name], expected[name])
    assert image["proposals"].image_size == (8, 8)
    torch.testing.assert_close(image["proposals"].proposal_boxes.tensor, expected["proposals"].proposal_boxes.tensor)
    torch.testing.assert_close(image["proposals"].rows, expected["proposals"].rows)
    assert image["mix"].kind == "mixup"
    np.testing.assert_array_equal(image["mix"].partners, expected["mix"].partners)


class Images(torch.utils.data.Dataset):
    def __len__(self):
        return 6

    def __getitem__(self, i):
        return make_image(i)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_loader_yields_the_images(num_workers):
    batches = list(DataLoader(Images(), batch_size=2, num_workers=num_workers, collate_fn=collate))
    assert [type(batch) for batch in batches] == [list] * 3
    for i, image in enumerate(image for batch in batches for image in batch):  # image 0 has no proposals
        assert_same(image, make_image(i))


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs /proc")
def test_a_batch_takes_one_file_descriptor():
    loader = DataLoader(Images(), batch_size=6, num_workers=1, collate_fn=collate, persistent_workers=True)
    next(iter(loader))
    before = len(os.listdir("/proc/self/fd"))
    batch = next(iter(loader))
    assert len(os.listdir("/proc/self/fd")) <= before + 1
    assert len(batch) == 6


def test_large_tensors_are_not_copied():
    large = torch.ones(2**16)  # float32: the least size
    batch = SharedBatch([large, large[1:]])
    assert [x.data_ptr() for x in batch._others] == [large.data_ptr()]


@pytest.mark.parametrize(
    "x",
    [
        torch.arange(12.0).reshape(3, 4).T,  # not contiguous
        torch.tensor(1.5),
        torch.zeros(0, 4),
        torch.ones(2**18),
        torch.ones(3, dtype=torch.bfloat16),
        torch.ones(2, dtype=torch.bool),
        torch.ones(2, requires_grad=True),
        torch.nn.Parameter(torch.ones(2), requires_grad=False),
    ],
    ids=["transposed", "scalar", "empty", "large", "bfloat16", "bool", "trained", "parameter"],
)
def test_tensors_arrive_unchanged_and_writable(x):
    (arrived,) = pickle.loads(pickle.dumps(SharedBatch([x])))
    torch.testing.assert_close(arrived, x)
    assert arrived.requires_grad == x.requires_grad
    assert type(arrived) is type(x) and arrived.stride() == x.stride()
    arrived.detach().zero_()
    assert not arrived.any()


def test_tensors_of_a_batch_are_aligned_and_do_not_overlap():
    batch = pickle.loads(pickle.dumps(SharedBatch([torch.full((n,), n, dtype=torch.uint8) for n in (1, 65, 3)])))
    assert len({x.data_ptr() % 64 for x in batch}) == 1
    batch[1].zero_()
    assert batch[0].tolist() == [1] and batch[2].tolist() == [3] * 3


def test_collate_mixes_in_every_process():
    for num_workers in (0, 1):
        loader = DataLoader(Images(), batch_size=3, num_workers=num_workers, collate_fn=reverse)
        assert [[x["image_id"] for x in batch] for batch in loader] == [[2, 1, 0], [5, 4, 3]]


def reverse(images):
    return collate(images, mix=lambda batch: batch[::-1])


def test_error_of_pickling_ends_the_training():
    loader = DataLoader([lambda: None], num_workers=1, collate_fn=collate, timeout=60)
    with pytest.raises(Exception, match="pickle"):
        next(iter(loader))
