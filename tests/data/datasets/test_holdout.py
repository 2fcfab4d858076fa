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
    """Ten images of which three are held out."""
    records = [{"file_name": f"{i}.jpg", "image_id": i, "labels": [0]} for i in range(10)]
    register("whole", lambda: records, {}, classes=["cat", "dog"], images=10)
    assert register_holdout("whole", 3) == ("whole_fit", "whole_holdout")


def ids(name):
    return [record["image_id"] for record in DatasetCatalog.get(name)]


def test_the_least_hashes_are_held_out_whatever_the_order_of_the_files(parts):
    assert hashlib.sha256(b"5").hexdigest().startswith("ef2d12")  # the greatest of the ten, as sha256sum says too
    by_hash = sorted(range(10), key=lambda i: hashlib.sha256(str(i).encode()).hexdigest())
    assert set(ids("whole_holdout")) == set(by_hash[:3]) and ids("whole_holdout") == sorted(ids("whole_holdout"))
    assert ids("whole_fit") == sorted(by_hash[3:]) and by_hash[-1] == 5
    DatasetCatalog.get("whole").reverse()
    assert ids("whole_holdout") == sorted(by_hash[:3], reverse=True)


def test_what_is_known_of_the_parts(parts):
    for name, images in (("whole_fit", 7), ("whole_holdout", 3)):
        metadata = MetadataCatalog.get(name)
        assert (metadata.thing_classes, metadata.expected_images) == (["cat", "dog"], images)
    assert (get_source_dataset("whole_holdout"), get_source_dataset("whole")) == ("whole", "whole")
    register_holdout("whole", 3)  # training, then evaluation, in one process
    with pytest.raises(ValueError, match="'whole_fit' is already registered with other arguments"):
        register_holdout("whole", 4)


def test_one_store_serves_all_parts(parts, tmp_path):
    store = str(tmp_path / "store.arrow")
    with ProposalStoreWriter(store, StoreMetadata("whole", "by hand")) as writer:
        for i in range(10):
            writer.write(i, np.array([[0, 0, 10 + i, 5]]), np.array([0.5]))
    for name in ("whole_fit", "whole_holdout", "whole"):
        (batch,) = build_test_loader(name, mapper=dict, batch_size=10, proposals=store)
        assert [record["proposal_boxes"][0, 2] - 10 for record in batch] == ids(name)


def test_nothing_would_be_left(parts):
    register("other", lambda: DatasetCatalog.get("whole"), {}, classes=["cat", "dog"])
    fit, _ = register_holdout("other", 10)
    with pytest.raises(ValueError, match="other has 10 images, but 10 are to be held out: hold out fewer"):
        DatasetCatalog.get(fit)
