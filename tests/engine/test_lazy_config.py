"""Overrides, and the dataset of a config."""

import json
from pathlib import Path

import pytest
from detectron2.config import LazyConfig, instantiate
from detectron2.data import DatasetCatalog, MetadataCatalog
from helpers.builders import own_images
from PIL import Image

from wsd_distill.data.datasets import get_splits, register_with_unlabelled
from wsd_distill.engine import load_config as load_file
from wsd_distill.engine import resolve_schedule

NAME = "small/student.py"


def test_sets_nested_keys_of_every_kind(load_config):
    cfg = load_config(
        NAME,
        "train.max_iter=7",
        "dataloader.train.mapper.sizes=[32, 64]",
        "train.channels_last=False",
        "optimizer.lr=0.5",
    )
    assert (cfg.train.max_iter, cfg.train.channels_last, cfg.optimizer.lr) == (7, False, 0.5)
    assert list(cfg.dataloader.train.mapper.sizes) == [32, 64]
    assert list(cfg.dataloader.test.val.loader.mapper.sizes) == [32, 64]  # follows by interpolation


@pytest.mark.parametrize(
    "typo, meant",
    [
        ("train.max_iters=7", "train.max_iter"),
        ("optimiser.lr=1", "optimizer.lr"),
        ("model.num_clases=3", "num_classes"),
    ],
)
def test_a_mistyped_key_is_an_error_that_names_similar_ones(load_config, typo, meant):
    with pytest.raises(KeyError, match=f"no key '{typo.split('=')[0]}'; did you mean .*{meant}"):
        load_config(NAME, typo)


def test_a_key_below_a_value_is_an_error(load_config):
    with pytest.raises(KeyError, match="no key 'train.max_iter.x'"):
        load_config(NAME, "train.max_iter.x=1")


def test_not_key_value(load_config):
    with pytest.raises(ValueError, match="write key=value"):
        load_config(NAME, "train.max_iter")


def test_the_home_folder_in_values(load_config, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", "/home/me")
    overrides = ["train.output_dir=~/runs/a", 'train.init_checkpoint="~/a b.pth"', "detector.opts=[A,~/b,'~/c']"]
    cfg = load_config(NAME, *overrides)
    assert (cfg.train.output_dir, cfg.train.init_checkpoint) == ("/home/me/runs/a", "/home/me/a b.pth")
    assert cfg.detector.opts == ["A", "/home/me/b", "/home/me/c"]
    config = tmp_path / "own.py"
    recipe = "from detectron2.config import LazyConfig\nglobals().update(LazyConfig.load('configs/small/student.py'))\n"
    config.write_text(f"{recipe}train.output_dir = '~/own'\n")
    monkeypatch.chdir(Path(__file__).parents[2])
    assert load_file(str(config)).train.output_dir == "/home/me/own"


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("a.yaml", "x: [1", "a.yaml cannot be read as a config .ParserError"),
        ("a.yaml", "- 1", "a.yaml is not a config of tools/train_net.py: it has no section dataset, proposals"),
        ("a.yaml", "", "a.yaml is not a config of tools/train_net.py: it has no section dataset, proposals"),
        (
            "a.yaml",
            "MODEL: {WEIGHTS: a}",
            "a.yaml is not a config .* dataset, proposals, .*, train. Start",
        ),
        ("a.py", "x = (", "a.py.* cannot be read as a config .SyntaxError"),
        ("a.py", "x = 1\nint([])", "a.py, line 2 cannot be read as a config .TypeError: int"),
        ("a.txt", "", "Config file .*a.txt has to be a python or yaml file"),
    ],
)
def test_a_file_that_is_no_config_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        load_file(str(tmp_path / name))
    with pytest.raises(ValueError, match="is a folder"):
        load_file(str(tmp_path))


@pytest.mark.parametrize("value", ["1,2", "lr=0.1", "[1,2"])
def test_a_value_that_cannot_be_parsed_is_an_error(load_config, value):
    with pytest.raises(ValueError, match="the value of 'train.output_dir=.* cannot be parsed. Quote"):
        load_config(NAME, f"train.output_dir={value}")


def test_quoted_text_is_unchanged(load_config):
    assert load_config(NAME, 'train.output_dir="a=b, c"').train.output_dir == "a=b, c"


def test_a_parameter_that_the_config_leaves_out_can_be_set(load_config):
    cfg = load_config("small/teacher.py", "model.test_nms_thresh=0.3", "image_proposals.proposer.min_score=0.02")
    assert instantiate(cfg.model).test_nms_thresh == 0.3
    assert instantiate(cfg.model).proposer.proposer.min_score == 0.02
    with pytest.raises(KeyError, match="no key 'image_proposals.proposer.min_scor'"):
        load_config("small/teacher.py", "image_proposals.proposer.min_scor=0.02")
    with pytest.raises(KeyError, match="no key 'trainer.options'"):  # **options is not a parameter of that name
        load_config("small/stage2.py", "trainer.options=1")


def test_an_override_below_an_interpolation_changes_what_it_refers_to(load_config):
    cfg = load_config("small/teacher.py", "model.proposer.num_proposals=5", "image_proposals.proposer.sides=[320]")
    assert cfg.image_proposals.num_proposals == 5
    assert cfg.proposals.methods.edge_boxes.generator.sides == [320]
    assert instantiate(cfg.image_proposals.proposer).max_boxes == 64  # still the dataset's own value


@pytest.mark.parametrize("order", [1, -1])
def test_the_parameters_of_another_generator_are_overridden_in_any_order(load_config, order):
    overrides = ["proposals.method=selective_search", "image_proposals.proposer.mode=quality"][::order]
    proposer = instantiate(load_config("small/teacher.py", *overrides).image_proposals.proposer)
    assert (proposer.name, proposer.mode) == ("selective_search", "quality")


def test_an_unknown_generator_is_an_error_that_lists_the_known_ones(load_config):
    with pytest.raises(ValueError, match="proposals.method=edge: choose from edge_boxes, selective_search, detector"):
        load_config("small/teacher.py", "proposals.method=edge")


def test_overrides_replace_settings_of_the_dataset(load_config):
    cfg = load_config(NAME, "dataset.flip_prob=0.5", "dataset.val=digit_scenes_test")
    assert (cfg.dataset.flip_prob, cfg.dataset.val, cfg.dataset.num_classes) == (0.5, "digit_scenes_test", 10)
    assert instantiate(cfg.dataloader.train.mapper).flip_prob == 0.5


def test_an_unknown_dataset_is_an_error_that_names_similar_ones(load_config):
    with pytest.raises(KeyError, match="dataset.name=coco_2041: no such dataset; did you mean coco_201"):
        load_config("vgg16/student.py", "dataset.name=coco_2041")
    with pytest.raises(ValueError, match="set dataset.name to one of coco3k, coco_2014, .*, or to a name for your own"):
        load_config("vgg16/student.py")


@pytest.mark.parametrize("name", ["digit_scenes", "coco_2014", "coco3k"])
def test_own_files_cannot_use_the_name_of_a_built_in_dataset(load_config, tmp_path, name):
    (tmp_path / "a.csv").write_text("file,labels\n0.png,cat\n")
    with pytest.raises(ValueError, match=f"dataset.name={name} is taken by another dataset: choose another"):
        load_config("small/student.py", *own_images(tmp_path / "a.csv", name=name))


@pytest.fixture
def own(tmp_path, restore_catalogs):
    """Overrides for three images, and two more in one list for both other splits."""
    for i in range(3):
        Image.new("RGB", (30, 20)).save(tmp_path / f"{i}.png")
    (tmp_path / "train.csv").write_text("file,labels\n0.png,cat;dog\n1.png,cow\n2.png,\n")
    (tmp_path / "other.csv").write_text("file,labels,split\n3.png,dog,val\n4.png,cat,test\n")
    names = ["dataset.split_names.val=val", "dataset.split_names.test=test"]
    return [*own_images(tmp_path / "train.csv", *[tmp_path / "other.csv"] * 2), *names]


OWN_RECIPE = "efficientnet_lite0/student.py"


def test_own_images_by_overrides_alone(own, load_config):
    load_config(OWN_RECIPE, *own)
    cfg = load_config(OWN_RECIPE, *own)  # training, then evaluation, in one process
    assert get_splits(cfg) == ["pets_train", "pets_val", "pets_test"]
    assert [len(DatasetCatalog.get(name)) for name in get_splits(cfg)] == [3, 1, 1]
    assert DatasetCatalog.get("pets_val")[0]["labels"] == [2]  # of the training list: cat, cow, dog
    mapper = instantiate(cfg.dataloader.train.mapper)
    assert mapper.num_classes == cfg.dataset.num_classes == 3
    out = mapper(DatasetCatalog.get(cfg.dataloader.train.dataset)[0])
    assert out["labels"].tolist() == [1, 0, 1]
    assert out["image"].shape == (3, 128, 128)
    assert (out["height"], out["width"]) == (20, 30)
    assert instantiate(cfg.proposals.val).endswith("proposals/pets_val_edge_boxes.arrow")


def test_a_missing_file_is_an_error_that_names_it(load_config, restore_catalogs):
    with pytest.raises(ValueError, match="dataset.name=pets: set dataset.files.val, dataset.files.test"):
        load_config(OWN_RECIPE, "dataset.name=pets", "dataset.files.train=train.csv")


def test_own_images_in_cocos_format(tmp_path, load_config, restore_catalogs):
    categories = [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}]
    for split in ("train", "val", "test"):
        image = {"id": 1, "file_name": "a.jpg", "height": 20, "width": 30}
        annotation = {"image_id": 1, "category_id": 7, "bbox": [0, 0, 5, 5], "iscrowd": 0}
        content = {"images": [image], "annotations": [annotation], "categories": categories}
        (tmp_path / f"{split}.json").write_text(json.dumps(content))
    files = own_images(*(tmp_path / f"{split}.json" for split in ("train", "val", "test")))
    cfg = load_config(OWN_RECIPE, *files, f"dataset.image_root='{tmp_path}/{{split}}'")
    assert (cfg.dataset.num_classes, cfg.dataset.boxes) == (2, True)
    (record,) = DatasetCatalog.get("pets_val")
    assert (record["labels"], record["file_name"]) == ([1], str(tmp_path / "val" / "a.jpg"))


@pytest.fixture
def saved(load_config, tmp_path):
    """A function: recipe and overrides -> the ``config.yaml`` that a run saves."""

    def save(name, *overrides):
        path = str(tmp_path / "config.yaml")
        LazyConfig.save(load_config(name, *overrides), path)
        return path

    return save


def test_a_saved_config_registers_its_dataset(own, saved):
    cfg = load_file(saved(OWN_RECIPE, *own))
    assert instantiate(cfg.dataloader.test.val.loader.mapper).num_classes == 3


def test_a_saved_config_has_epochs_not_iterations(saved):
    """Another batch size or number of epochs then changes the iterations, as in the recipe."""
    cfg = load_file(saved(NAME), ["train.epochs=3"])
    assert (cfg.train.max_iter, cfg.train.checkpointer.period, cfg.train.epochs) == (None, None, 3)
    cfg = load_file(saved(NAME, "train.max_iter=70"))
    assert (cfg.train.max_iter, cfg.train.epochs) == (70, 12)


def test_a_saved_config_cannot_be_used_for_another_dataset(saved):
    path = saved(NAME)
    assert load_file(path, ["dataset.name=digit_scenes"]).dataset.train == "digit_scenes_train"
    with pytest.raises(ValueError, match="was saved by a run on dataset digit_scenes: for voc5 use its recipe"):
        load_file(path, ["dataset.name=voc5"])


def test_voc5_is_found_in_detectron2s_folder(tmp_path, monkeypatch, load_config):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    (tmp_path / "voc5").mkdir()
    names = ["bus", "car", "cat", "person", "train"]
    content = {
        "images": [{"id": 1, "file_name": "000001.jpg", "height": 20, "width": 30}],
        "annotations": [{"image_id": 1, "category_id": 3, "bbox": [0, 0, 5, 5], "iscrowd": 0}],
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate(names)],
    }
    (tmp_path / "voc5" / "instances_val.json").write_text(json.dumps(content))
    cfg = load_config("efficientnet_lite0/student.py", "dataset.name=voc5")
    assert get_splits(cfg) == ["voc5_train", "voc5_val"]
    (record,) = DatasetCatalog.get("voc5_val")
    assert (record["labels"], record["file_name"]) == ([2], str(tmp_path / "voc5" / "val" / "000001.jpg"))
    with pytest.raises(FileNotFoundError, match=r"voc5.instances_train\.json is missing"):
        DatasetCatalog.get("voc5_train")
    assert list(cfg.dataloader.test) == ["test"]
    assert cfg.dataloader.test.test.evaluator.threshold_split is None


def test_a_training_without_a_fold(load_config, tmp_path, restore_catalogs):
    """The part has the proposal store of the dataset; val and test are unchanged, also in the config of the run."""
    whole, cfg = load_config("small/teacher.py"), load_config("small/teacher.py", "dataset.leave_out=1/3")
    assert cfg.dataset.train == "digit_scenes_train_without_1_of_3"
    assert (cfg.dataset.val, cfg.dataset.test) == (whole.dataset.val, whole.dataset.test)
    assert instantiate(cfg.proposals.train) == instantiate(whole.proposals.train)
    LazyConfig.save(cfg, str(tmp_path / "config.yaml"))
    saved = load_file(str(tmp_path / "config.yaml"))
    assert saved.dataset.train == cfg.dataset.train and saved.dataset.class_names == whole.dataset.class_names
    with pytest.raises(ValueError, match="dataset.leave_out=3/3: give fold/folds"):
        load_config("small/teacher.py", "dataset.leave_out=3/3")
    with pytest.raises(ValueError, match="dataset.leave_out is for teachers, which do not train on unlabelled images"):
        load_config("small/teacher.py", "dataset.leave_out=0/3", "dataset.unlabelled=digit_scenes_test")
    with pytest.raises(ValueError, match="dataset.leave_out is for teachers and students without distillation: for"):
        load_config("small/stage2.py", "dataset.leave_out=0/3")


def test_a_teacher_for_each_fold(load_config, restore_catalogs):
    cfg = load_config("small/stage2.py", "distiller.teacher_checkpoint=[a/0.pth,b/1.pth]")
    assert list(cfg.distiller.teacher_checkpoint) == ["a/0.pth", "b/1.pth"]
    assert instantiate(cfg.distiller.cache.folder) == "a/teacher_cache_of_2"
    with pytest.raises(ValueError, match="distiller.teacher_checkpoint=.*: give .* with at least one item"):
        load_config("small/stage2.py", "distiller.teacher_checkpoint=[]")


@pytest.fixture
def unlabelled(own, tmp_path):
    """``own`` with a folder of three photos, one of them in a subfolder, and a text file."""
    for name in ("0.png", "more/8.JPG", "9.png"):
        path = tmp_path / "unlabelled" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (30, 20)).save(path, "png")
    (tmp_path / "unlabelled" / "notes.txt").write_text("none")
    return [*own, f"dataset.files.unlabelled={tmp_path}/unlabelled"]


def test_unlabelled_images_follow_the_labelled_ones(unlabelled, load_config):
    name = "pets_train_with_pets_unlabelled"
    for _ in range(2):
        cfg = load_config("small/soft_labels.py", *unlabelled)
    assert get_splits(cfg) == [name, "pets_val", "pets_test"] and cfg.dataset.unlabelled == "pets_unlabelled"
    records = DatasetCatalog.get(cfg.dataloader.train.dataset)
    assert [r["image_id"] for r in records[:3]] == ["0.png", "1.png", "2.png"]
    assert [r["image_id"] for r in records[3:]] == ["unlabelled/0.png", "unlabelled/9.png", "unlabelled/more/8.JPG"]
    mapper = instantiate(cfg.dataloader.train.mapper)
    labels = [mapper._encode_labels(record).tolist() for record in records]
    assert labels == [[1, 0, 1], [0, 1, 0], [0, 0, 0], *[[-1, -1, -1]] * 3]
    assert instantiate(cfg.proposals.train).endswith(f"proposals/{name}_edge_boxes.arrow")
    assert cfg.distiller.cache.dataset == name


def test_the_epochs_count_unlabelled_images(unlabelled, load_config):
    cfg = load_config("small/soft_labels.py", *unlabelled, "train.epochs=4", "train.batch_size=3")
    resolve_schedule(cfg)
    assert cfg.train.max_iter == 8  # 4 * (3 + 3) / 3


@pytest.mark.parametrize(
    "name, content",
    [
        ("list.csv", "file\n7.png\n0.png\n3.png\n"),
        ("list.csv", "file,labels,split\n7.png,whale,a\n0.png,,a\n9.png,,b\n"),
        ("list.json", '[{"file": "7.png", "split": "a"}, {"file": "0.png", "labels": ["cat"], "split": "a"}]'),
    ],
)
def test_a_list_of_unlabelled_images(own, load_config, tmp_path, caplog, name, content):
    """Its labels are not used, and images of the labelled splits (0: train, 3: val) are left out."""
    (tmp_path / name).write_text(content)
    part = ["dataset.split_names.unlabelled=a"] if "split" in content else []
    cfg = load_config("small/stage2.py", *own, f"dataset.files.unlabelled={tmp_path / name}", *part)
    caplog.set_level("INFO")
    (added,) = DatasetCatalog.get(cfg.dataset.train)[3:]
    assert added == {"file_name": f"{tmp_path}/7.png", "image_id": "unlabelled/7.png", "labels": [],
                     "ignore_labels": [0, 1, 2]}  # fmt: skip
    assert "images are left out, because a labelled split has them" in caplog.text
    assert "images without labels are added to" in caplog.text


def test_a_registered_dataset_without_its_labels(load_config, monkeypatch, restore_catalogs):
    """Here the images of voc5, whose labels have other classes, next to own ones; COCO keeps images without any."""
    records = [{"file_name": "a.jpg", "image_id": 4, "labels": [3], "height": 2, "width": 3, "annotations": [{}]}]
    DatasetCatalog.register("others", lambda: records)
    DatasetCatalog.register("known", lambda: [{"file_name": "b.jpg", "image_id": 4, "labels": [0]}])
    MetadataCatalog.get("known").set(thing_classes=["cat", "dog"])
    name = register_with_unlabelled("known", "others")
    assert name == "known_with_others"
    assert DatasetCatalog.get(name)[1] == {"file_name": "a.jpg", "image_id": "unlabelled/4", "labels": [],
                                           "ignore_labels": [0, 1], "height": 2, "width": 3}  # fmt: skip
    cfg = load_config("small/stage2.py", "dataset.name=digit_scenes", "dataset.unlabelled=digit_scenes_test")
    assert cfg.dataset.train == "digit_scenes_train_with_digit_scenes_test"
    with pytest.raises(KeyError, match="dataset.unlabelled=digit_scene: no such registered dataset; did you mean"):
        load_config("small/stage2.py", "dataset.name=digit_scenes", "dataset.unlabelled=digit_scene")


def test_a_folder_without_images_and_a_missing_one(own, load_config, tmp_path):
    (tmp_path / "empty").mkdir()
    cfg = load_config("small/stage2.py", *own, f"dataset.files.unlabelled={tmp_path}/empty")
    with pytest.raises(ValueError, match=r"dataset.files.unlabelled=.*empty has no image \(.jpg"):
        DatasetCatalog.get(cfg.dataset.train)
    with pytest.raises(FileNotFoundError, match="dataset.files.unlabelled=.*missing: set it to a folder"):
        load_config("small/stage2.py", *own, f"dataset.files.unlabelled={tmp_path}/none")


def test_a_saved_config_registers_unlabelled_images(unlabelled, saved):
    cfg = load_file(saved("small/soft_labels.py", *unlabelled))
    assert cfg.dataset.train == "pets_train_with_pets_unlabelled"
    assert len(DatasetCatalog.get(cfg.dataset.train)) == 6
