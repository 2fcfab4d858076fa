import hashlib

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from wsd_distill.data.build import build_test_loader
from wsd_distill.data.datasets import get_source_dataset, register_holdout
from wsd_distill.data.datasets.catalog import register
from wsd_distill.data.proposal_store import ProposalStoreWriter, StoreMetadata


@pytest.fixture
def parts(restore_catalogs):
    """Ten images, three of them held out."""
    records = [{"file_name": f"{i}.jpg", "image_id": i, "labels": [0]} for i in range(10)]
    register("pets", lambda: records, {}, classes=["cat", "dog"], images=10)
    for name, holdout in (("fit", False), ("kept", True)):
        register_holdout(name, "pets", images=3, holdout=holdout)


def ids(name):
    return [record["image_id"] for record in DatasetCatalog.get(name)]


def test_smallest_hashes_are_held_out_in_any_order_of_the_files(parts):
    assert hashlib.sha256(b"5").hexdigest().startswith("ef2d12")  # the largest of the ten, checked with sha256sum
    by_hash = sorted(range(10), key=lambda i: hashlib.sha256(str(i).encode()).hexdigest())
    assert set(ids("kept")) == set(by_hash[:3]) and ids("kept") == sorted(ids("kept"))
    assert ids("fit") == sorted(by_hash[3:]) and by_hash[-1] == 5
    DatasetCatalog.get("pets").reverse()
    assert ids("kept") == sorted(by_hash[:3], reverse=True)


def test_metadata_of_the_parts(parts):
    for name, images in (("fit", 7), ("kept", 3)):
        metadata = MetadataCatalog.get(name)
        assert (metadata.thing_classes, metadata.expected_images) == (["cat", "dog"], images)
    assert (get_source_dataset("kept"), get_source_dataset("pets")) == ("pets", "pets")
    register_holdout("kept", "pets", images=3, holdout=True)  # again: training, then evaluation in one process
    with pytest.raises(ValueError, match="'kept' is registered already, otherwise"):
        register_holdout("kept", "pets", images=4, holdout=True)


def test_all_parts_share_one_store(parts, tmp_path):
    store = str(tmp_path / "store.arrow")
    with ProposalStoreWriter(store, StoreMetadata("pets", "by hand")) as writer:
        for i in range(10):
            writer.write(i, np.array([[0, 0, 10 + i, 5]]), np.array([0.5]))
    for name in ("fit", "kept", "pets"):
        (batch,) = build_test_loader(name, mapper=dict, batch_size=10, proposals=store)
        assert [record["proposal_boxes"][0, 2] - 10 for record in batch] == ids(name)


def test_holding_out_all_images_raises(parts):
    register_holdout("all_held_out", "pets", images=10, holdout=False)
    with pytest.raises(ValueError, match="pets has 10 images, cannot hold out 10: hold out fewer"):
        DatasetCatalog.get("all_held_out")
