"""Datasets that only a config knows, as tools see them."""

import json

import pytest
from detectron2.config import LazyConfig, instantiate
from detectron2.data import DatasetCatalog
from helpers.builders import own_images
from PIL import Image

from wsd_distill.data.datasets import count_classes, get_splits, register_from_config


@pytest.fixture
def own(tmp_path, restore_catalogs):
    """Overrides for three training images and one list for both other splits."""
    for i in range(3):
        Image.new("RGB", (30, 20)).save(tmp_path / f"{i}.png")
    (tmp_path / "train.csv").write_text("file,labels\n0.png,cat;dog\n1.png,cow\n2.png,\n")
    (tmp_path / "other.csv").write_text("file,labels,split\n3.png,dog,val\n4.png,cat,test\n")
    return own_images(tmp_path / "train.csv", *[tmp_path / "other.csv"] * 2)


def test_own_images_by_overrides_alone(own, load_config, tmp_path):
    cfg = load_config("image_list/data.py", *own, "dataset.register.1.split=val", "dataset.register.2.split=test")
    register_from_config(cfg)
    register_from_config(cfg)  # training, then evaluation, in one process
    assert get_splits(cfg) == ["pets_train", "pets_val", "pets_test"]
    assert [len(DatasetCatalog.get(name)) for name in get_splits(cfg)] == [3, 1, 1]
    assert DatasetCatalog.get("pets_val")[0]["labels"] == [2]  # of the training list: cat, cow, dog
    cfg.model = {"image_format": "RGB"}  # as the config of any model has it
    mapper = instantiate(cfg.dataloader.train.mapper)
    assert mapper.num_classes == count_classes("pets_train") == 3
    out = mapper(DatasetCatalog.get(cfg.dataloader.train.dataset)[0])
    assert out["labels"].tolist() == [1, 0, 1]
    assert out["image"].shape == (3, 224, 224)
    assert (out["height"], out["width"]) == (20, 30)
    assert instantiate(cfg.proposals.val).endswith("proposals/pets_val_edge_boxes.arrow")


def test_what_was_saved_with_a_run_registers_the_same(own, load_config, tmp_path):
    cfg = load_config("image_list/data.py", *own)
    cfg.train, cfg.model = {"output_dir": "output"}, {"image_format": "RGB"}  # as the config of any model has them
    LazyConfig.save(cfg, str(tmp_path / "config.yaml"))
    cfg = LazyConfig.load(str(tmp_path / "config.yaml"))
    register_from_config(cfg)
    assert instantiate(cfg.dataloader.test.val.loader.mapper).num_classes == 3


def test_a_setting_that_is_missing_is_named(load_config, restore_catalogs):
    with pytest.raises(Exception, match="dataset.files.train|dataset.name"):
        register_from_config(load_config("image_list/data.py"))


def test_voc5_is_found_where_detectron2_looks(tmp_path, monkeypatch, load_config, restore_catalogs):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    (tmp_path / "voc5").mkdir()
    names = ["bus", "car", "cat", "person", "train"]
    content = {
        "images": [{"id": 1, "file_name": "000001.jpg", "height": 20, "width": 30}],
        "annotations": [{"image_id": 1, "category_id": 3, "bbox": [0, 0, 5, 5], "iscrowd": 0}],
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate(names)],
    }
    (tmp_path / "voc5" / "instances_val.json").write_text(json.dumps(content))
    cfg = load_config("voc5/data.py")
    register_from_config(cfg)
    assert get_splits(cfg) == ["voc5_train", "voc5_val"]
    (record,) = DatasetCatalog.get("voc5_val")
    assert (record["labels"], record["file_name"]) == ([2], str(tmp_path / "voc5" / "val" / "000001.jpg"))
    with pytest.raises(FileNotFoundError, match=r"voc5.instances_train\.json is missing"):
        DatasetCatalog.get("voc5_train")
    assert list(cfg.dataloader.test) == ["test"]
    assert cfg.dataloader.test.test.evaluator.threshold_split is None
