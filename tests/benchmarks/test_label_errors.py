"""Flipped labels, and the precision of rankings of them."""

import csv

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from helpers.benchmarks import load_benchmark
from PIL import Image

from wsd_distill.data.datasets import DatasetInfo, register_info
from wsd_distill.data.proposal_store import ProposalStore, ProposalStoreWriter, StoreMetadata

benchmark = load_benchmark("label_errors")


def test_labels_move_to_other_photos():
    labels = np.random.default_rng(0).random((200, 6)) < [0.5, 0.3, 0.2, 0.1, 0.05, 0.02]
    flipped = benchmark["flip_labels"](labels, 0.1, seed=1)
    count = round(0.1 * labels.sum())
    assert (labels & ~flipped).sum() == (flipped & ~labels).sum() == count
    np.testing.assert_array_equal(flipped.sum(0), labels.sum(0))
    np.testing.assert_array_equal(flipped, benchmark["flip_labels"](labels, 0.1, seed=1))
    assert (flipped != benchmark["flip_labels"](labels, 0.1, seed=2)).any()


def test_lists_flips_and_proposals(tmp_path, monkeypatch, restore_catalogs):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    rows = [[0], [0, 1], [1], [], [0], [1], [0, 1], [], [0], [1]]
    for i in range(10):
        Image.new("RGB", (4, 3)).save(tmp_path / f"{i}.png")
    records = [{"file_name": f"{tmp_path}/{i}.png", "image_id": 100 - i, "labels": row} for i, row in enumerate(rows)]
    for split in ("train", "val"):
        DatasetCatalog.register(f"zoo_{split}", lambda: records)
        MetadataCatalog.get(f"zoo_{split}").set(thing_classes=["cat", "dog"])
    register_info("zoo", DatasetInfo("zoo_train", "zoo_val", "zoo_val"))
    with ProposalStoreWriter(tmp_path / "proposals/zoo_train_edge_boxes.arrow", StoreMetadata("zoo_train", "x")) as new:
        for image_id in sorted(map(str, range(91, 101))):
            new.write(image_id, np.array([[0, 0, 1, int(image_id)]]), np.ones(1))
    folder = tmp_path / "flipped"
    root = benchmark["write_flipped"]("zoo", folder, 0.2, 0)
    assert root == str(tmp_path)
    with open(folder / "train.csv", newline="") as file:
        given = {row["file"]: set(row["labels"].split(";")) - {""} for row in csv.DictReader(file)}
    expected = {f"{i}.png": {["cat", "dog"][k] for k in row} for i, row in enumerate(rows)}
    with open(folder / "flips.csv", newline="") as file:
        flips = list(csv.DictReader(file))
    assert len(flips) == 4  # 2 of 10 labels, moved
    for flip in flips:
        given[flip["file"]] ^= {flip["label"]}
    assert given == expected
    store = ProposalStore(folder / "proposals/train.arrow", "zoo_flipped_train")
    assert [store[f"{i}.png"][0][0, 3] for i in range(10)] == [100 - i for i in range(10)]
    assert benchmark["read_flips"](folder, list(given), ["cat", "dog"]).sum() == 4
    lines = benchmark["commands"]("zoo", folder, root)
    assert sum("dataset.leave_out=" in line for line in lines) == 6 and "compare" in lines[-1]


def test_precision_and_orders():
    pytest.importorskip("cleanlab")
    rng = np.random.default_rng(0)
    truth = rng.random((200, 5)) < 0.3
    scores = np.where(truth, 0.9, 0.1) + rng.uniform(-0.05, 0.05, truth.shape)
    labels = benchmark["flip_labels"](truth, 0.2, seed=0)
    flipped, count = labels != truth, int((labels != truth).sum())
    orders = benchmark["cleanlab_orders"](scores, labels.astype(np.int8))
    orders["ours"] = benchmark["our_order"](scores, labels.astype(np.int8))
    for order in orders.values():
        assert sorted(order) == list(range(1000))
        found = benchmark["precision_at"](order, flipped)
        assert found == [100 * flipped.ravel()[order[:k]].mean() for k in (50, 100, 310, count)]
        assert found[0] == found[-1] == 100
