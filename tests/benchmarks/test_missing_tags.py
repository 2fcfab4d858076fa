import csv
import shlex
from collections import Counter

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from helpers.benchmarks import load_benchmark
from PIL import Image

from wsd_distill.data.datasets import DatasetInfo, register_info

benchmark = load_benchmark("missing_tags")
CLASSES = ["cat", "dog", "cow, brown"]
LABELS = [[0], [0, 1], [0, 1], [1], [], [0, 1], [0], [2], [0, 1], [0, 1]]  # 14 labels, one of class 2


@pytest.fixture
def dataset(tmp_path, restore_catalogs):
    for i in range(len(LABELS)):
        Image.new("RGB", (4, 3)).save(tmp_path / f"{i}.png")
    records = [{"file_name": f"{tmp_path}/{i}.png", "image_id": i, "labels": row} for i, row in enumerate(LABELS)]
    for split in ("train", "val"):
        DatasetCatalog.register(f"zoo_{split}", lambda rows=records[: 10 if split == "train" else 2]: rows)
        MetadataCatalog.get(f"zoo_{split}").set(thing_classes=CLASSES)
    register_info("zoo", DatasetInfo("zoo_train", "zoo_val", "zoo_val"))
    return "zoo"


@pytest.mark.parametrize("keep_one", [False, True])
def test_a_fraction_of_the_labels_is_dropped(keep_one):
    kept, again, other = (benchmark["drop_labels"](LABELS, 0.3, seed, keep_one) for seed in (0, 0, 1))
    assert sum(map(len, LABELS)) - sum(map(len, kept)) == 4  # 0.3 * 14
    assert all(set(row) <= set(before) for row, before in zip(kept, LABELS))
    assert kept == again != other


def test_the_last_label_of_a_class_or_an_image_is_kept():
    kept = benchmark["drop_labels"](LABELS, 1.0, 0)
    assert Counter(k for row in kept for k in row) == {0: 1, 1: 1, 2: 1}
    assert [len(row) for row in benchmark["drop_labels"](LABELS, 1.0, 0, True)] == [1, 1, 1, 1, 0, 1, 1, 1, 1, 1]


def test_labels_are_dropped_uniformly():
    many = [[0, 1]] * 400
    kept = benchmark["drop_labels"](many, 0.25, 0)
    counts = np.array([sum(k in row for row in kept) for k in (0, 1)])
    assert counts.sum() == 600 and (abs(counts - 300) < 40).all()


def test_chosen_images_have_every_class():
    for seed in range(5):
        chosen = benchmark["choose_images"](LABELS, 3, seed)
        assert len(chosen) == 3 and {k for i in chosen for k in LABELS[i]} == {0, 1, 2}
    with pytest.raises(ValueError, match="--labelled 1: one image of each class are"):
        benchmark["choose_images"](LABELS, 1, 0)
    with pytest.raises(ValueError, match="--labelled 10: choose from 1 to 9"):
        benchmark["choose_images"](LABELS, 10, 0)


def test_the_lists_load_with_the_printed_overrides(dataset, tmp_path, load_config):
    folder = tmp_path / "lists"
    options = {"drop": 0.3, "labelled": 4, "keep_one": False, "seed": 0}
    root = benchmark["write_lists"](dataset, folder, **options)
    assert root == str(tmp_path)
    rows = {path.stem: list(csv.DictReader(path.open())) for path in folder.glob("*.csv")}
    assert {name: len(found) for name, found in rows.items()} == {
        "train": 10, "val": 2, "test": 2, "dropped": 10, "labelled": 4, "unlabelled": 6}  # fmt: skip
    assert {row["file"] for row in rows["labelled"] + rows["unlabelled"]} == {f"{i}.png" for i in range(10)}
    lines = benchmark["commands"](dataset, folder, root)
    assert sum("train_net" in line for line in lines) == 18
    words = shlex.split(lines[-1])
    cfg = load_config(words[3].removeprefix("configs/"), *words[4:])
    records = DatasetCatalog.get(cfg.dataset.train)
    assert cfg.dataset.num_classes == 3 and [len(r.get("ignore_labels", [])) for r in records] == [0] * 4 + [3] * 4
    (own,) = [r for r in records if r["image_id"] == "7.png"]
    assert own["labels"] == [2]
