"""Errors of tools/train_net.py before its first step; those that need no model write nothing."""

import pytest
from helpers.builders import own_images
from helpers.running import in_process
from PIL import Image

LABELS = {"train": ["cat", "dog"], "val": ["cat", "dog"], "test": ["cat", ""]}


@pytest.fixture
def train(tmp_path, capsys, restore_catalogs):
    """Function: labels of two images by split, and overrides -> the last line of the error."""

    def call(*overrides, recipe="student", writes=False, **labels):
        for split, values in {**LABELS, **labels}.items():
            rows = ["file,labels"]
            for i, value in enumerate(values):
                Image.new("RGB", (30, 20), (i, len(split), 0)).save(tmp_path / f"{split}{i}.png")
                rows.append(f"{split}{i}.png,{value}")
            (tmp_path / f"{split}.csv").write_text("\n".join(rows))
        own = own_images(*(tmp_path / f"{split}.csv" for split in LABELS))
        config = ["--config-file", f"configs/small/{recipe}.py", f"train.output_dir={tmp_path}/out", "train.device=cpu"]
        with pytest.raises(SystemExit) as caught:
            in_process("tools/train_net.py", *config, *own, *overrides)
        assert caught.value.code == 2 and (tmp_path / "out").exists() == writes
        return capsys.readouterr().err.splitlines()[-1]

    return call


def test_a_split_without_a_positive(train):
    assert "error: the val split, pets_val, has no positive label in its 2 images" in train(val=["", ""])


def test_a_class_that_only_test_has(train, tmp_path):
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    error = train(
        f"dataset.classes={tmp_path}/classes.txt", train=["cat", "cat"], val=["cat", "cat"], test=["dog", "cat"]
    )
    assert "no training image has classes that other splits have (test has dog)" in error


def test_a_wrong_folder(train, tmp_path):
    error = train(f"dataset.image_root={tmp_path}/elsewhere")
    assert (
        f"the train split, pets_train: none of its 2 images exists, the first is {tmp_path}/elsewhere/train0.png"
        in error
    )


def test_one_class_for_the_teacher(train):
    labels = {split: ["cat", ""] for split in LABELS}
    assert "dataset.name=pets has one class, cat, for which T-WDet's softmax" in train(recipe="teacher", **labels)


def test_a_threshold_of_a_split_that_is_not_evaluated(train):
    error = train("dataloader.test.test.evaluator.threshold_split=train")
    assert "dataloader.test.test.evaluator.threshold_split=train: not a split that is evaluated in this run" in error


@pytest.mark.parametrize("loss", ["zlpr", "two_way"])
@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_a_ranking_loss_of_mixed_images(train, loss, kind):
    error = train(f"model.loss={loss}", f"dataloader.train.mix.{kind}=0.4", writes=True)
    assert (
        "labels of mixed images are between 0 and 1, and" in error
        and "mix=null (or mosaic alone), or model.loss to cross_entropy" in error
    )


def test_mixed_images_of_a_teacher(train):
    error = train("dataloader.train.mix.mosaic=True", recipe="teacher", writes=True)
    assert "T-WDet is not trained with mixed images, as proposals do not mix: set dataloader.train.mix=null" in error


def test_boxes_of_a_dataset_without_any(train):
    error = train("dataloader.test.test.evaluator.boxes=True")
    assert "Image 'test0.png' of 'pets_test' has no 'annotations'" in error


@pytest.mark.parametrize("recipe", ["student", "teacher"])
def test_unlabelled_images_without_a_teacher(train, tmp_path, recipe):
    (tmp_path / "more").mkdir()
    Image.new("RGB", (30, 20)).save(tmp_path / "more" / "0.png")
    error = train(f"dataset.files.unlabelled={tmp_path}/more", recipe=recipe)
    assert "dataset.unlabelled=pets_unlabelled: this config trains without a teacher" in error
    assert "or choose a config that distils" in error
