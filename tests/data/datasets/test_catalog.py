import hashlib

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from wsd_distill.data.build import build_test_loader
from wsd_distill.data.datasets import (
    get_fold,
    get_source_dataset,
    get_whole_dataset,
    register_holdout,
    register_without_fold,
)
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


def test_each_image_is_in_one_fold_whatever_the_order_of_the_files(parts):
    """The last byte of the SHA-256 of "5" is 0x9d, checked with sha256sum: 157 mod 4 is 1."""
    assert get_fold(5, 4) == get_fold("5", 4) == 1
    names = [register_without_fold("pets", f"{fold}/3") for fold in range(3)]
    assert names == [f"pets_without_{fold}_of_3" for fold in range(3)]
    left_out = [set(range(10)) - set(ids(name)) for name in names]
    assert sorted(i for fold in left_out for i in fold) == list(range(10)) and all(left_out)
    assert all(get_fold(i, 3) == fold for fold in range(3) for i in left_out[fold])
    before = set(ids(names[1]))
    DatasetCatalog.get("pets").reverse()
    assert set(ids(names[1])) == before and ids(names[1]) == sorted(before, reverse=True)


def test_a_part_without_a_fold_has_the_classes_and_the_proposals_of_its_source(parts):
    name = register_without_fold("pets_fit", "1/2")
    assert (MetadataCatalog.get(name).thing_classes, get_source_dataset(name)) == (["cat", "dog"], "pets")
    assert set(ids(name)) == {i for i in ids("pets_fit") if get_fold(i, 2) == 0}
    assert register_without_fold(name, "1/2") == name  # as in the config of a run
    assert (get_whole_dataset(name, "1/2"), get_whole_dataset(name, None)) == ("pets_fit", name)
    assert register_without_fold("unknown", "1/2") == "unknown_without_1_of_2"
    assert "unknown_without_1_of_2" not in DatasetCatalog.list()


@pytest.mark.parametrize("leave_out", ["3/3", "0/1", "0", "-1/3", "a/b", "1/3/3"])
def test_a_fold_that_does_not_exist_is_an_error(parts, leave_out):
    with pytest.raises(ValueError, match=f"dataset.leave_out={leave_out}: give fold/folds"):
        register_without_fold("pets", leave_out)


def test_a_fold_without_images_is_an_error(parts):
    empty = next(fold for fold in range(100) if all(get_fold(i, 100) != fold for i in range(10)))
    with pytest.raises(ValueError, match="pets has 10 images, too few for 100 folds: use fewer folds"):
        DatasetCatalog.get(register_without_fold("pets", f"{empty}/100"))
