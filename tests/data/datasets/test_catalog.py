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
    assert register_holdout("pets", 3) == ("pets_fit", "pets_holdout")


def ids(name):
    return [record["image_id"] for record in DatasetCatalog.get(name)]


def test_smallest_hashes_are_held_out_in_any_order_of_the_files(parts):
    assert hashlib.sha256(b"5").hexdigest().startswith("ef2d12")  # the largest of the ten, checked with sha256sum
    by_hash = sorted(range(10), key=lambda i: hashlib.sha256(str(i).encode()).hexdigest())
    assert set(ids("pets_holdout")) == set(by_hash[:3]) and ids("pets_holdout") == sorted(ids("pets_holdout"))
    assert ids("pets_fit") == sorted(by_hash[3:]) and by_hash[-1] == 5
    DatasetCatalog.get("pets").reverse()
    assert ids("pets_holdout") == sorted(by_hash[:3], reverse=True)


def test_metadata_of_the_parts(parts):
    for name, images in (("pets_fit", 7), ("pets_holdout", 3)):
        metadata = MetadataCatalog.get(name)
        assert (metadata.thing_classes, metadata.expected_images) == (["cat", "dog"], images)
    assert (get_source_dataset("pets_holdout"), get_source_dataset("pets")) == ("pets", "pets")
    register_holdout("pets", 3)  # training, then evaluation, in one process
    with pytest.raises(ValueError, match="'pets_fit' is already registered with other arguments"):
        register_holdout("pets", 4)


def test_all_parts_share_one_store(parts, tmp_path):
    store = str(tmp_path / "store.arrow")
    with ProposalStoreWriter(store, StoreMetadata("pets", "by hand")) as writer:
        for i in range(10):
            writer.write(i, np.array([[0, 0, 10 + i, 5]]), np.array([0.5]))
    for name in ("pets_fit", "pets_holdout", "pets"):
        (batch,) = build_test_loader(name, mapper=dict, batch_size=10, proposals=store)
        assert [record["proposal_boxes"][0, 2] - 10 for record in batch] == ids(name)


def test_holding_out_all_images_raises(parts):
    register("other", lambda: DatasetCatalog.get("pets"), {}, classes=["cat", "dog"])
    fit, _ = register_holdout("other", 10)
    with pytest.raises(ValueError, match="other has 10 images, cannot hold out 10: hold out fewer"):
        DatasetCatalog.get(fit)
