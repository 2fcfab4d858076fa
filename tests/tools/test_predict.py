"""tools/predict.py on photos and on a split, for T-WDet and for S-Cls."""

import json
import re

import numpy as np
import pytest
import torch
from detectron2.config import instantiate
from helpers.running import in_process, run
from PIL import Image


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The dataset and its proposal store, generated with the proposer of the config."""
    folder = tmp_path_factory.mktemp("datasets")
    config = ["--config-file", "configs/small/teacher.py"]
    run("tools/generate_proposals.py", *config, "--num-workers", 0, data=folder)
    return folder


@pytest.fixture
def weights(load_config, tmp_path):
    """A function: name of a config -> checkpoint of an untrained model."""

    def save(name):
        model = instantiate(load_config(f"small/{name}.py").model)
        torch.save({"model": model.state_dict()}, tmp_path / f"{name}.pth")
        return tmp_path / f"{name}.pth"

    return save


def command(config, weights, *arguments, folder="small"):
    config = config if str(config).endswith(".py") else f"configs/{folder}/{config}.py"
    chosen = ["--config-file", config, "--weights", weights]
    return ["tools/predict.py", *chosen, *arguments, "train.device=cpu"]


@pytest.fixture
def predict(capsys):
    """A function: the tool, run in this process -> its lines."""

    def main(*arguments, **options):
        in_process(*command(*arguments, **options))
        return lines(capsys.readouterr().out)

    return main


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


def test_photos_and_split_have_equal_results_with_the_stores_proposals(data, weights, predict, tmp_path):
    split = tmp_path / "split.jsonl"
    options = ["--threshold", "0", "--boxes-per-label", "2"]
    path = weights("teacher")
    run(*command("teacher", path, *options, "--output", split), data=data)
    expected = lines(split.read_text())
    assert len(expected) == 12
    files = [line["file_name"] for line in expected[:2]]
    found = predict("teacher", path, *options, "--input", *files, "--figures", tmp_path / "drawn")
    assert [line["file_name"] for line in found] == files
    for ours, theirs in zip(found, expected):
        assert ours["labels"] == pytest.approx(theirs["labels"])
        assert len(ours["labels"]) == 10 and list(ours["labels"].values()) == sorted(ours["labels"].values())[::-1]
        assert [box["label"] for box in ours["boxes"]] == [label for label in ours["labels"] for _ in range(2)]
        for box, other in zip(ours["boxes"], theirs["boxes"]):
            assert box["box"] == pytest.approx(other["box"], abs=1e-3)
            assert 0 < box["score"] <= ours["labels"][box["label"]]
    for i, file in enumerate(files):
        drawn, photo = (np.array(Image.open(f).convert("RGB")) for f in (tmp_path / f"drawn/0000{i}_0000{i}.png", file))
        assert drawn.shape == photo.shape and (drawn != photo).any(axis=2).sum() > 100


def test_a_classifier_outputs_labels_only(weights, predict, tmp_path):
    Image.fromarray(np.zeros((60, 90, 3), np.uint8)).save(tmp_path / "black.png")
    options = ["--input", tmp_path / "black.png", "--figures", tmp_path / "drawn", "--threshold"]
    (line,) = predict("student", weights("student"), *options, "0")
    assert set(line) == {"file_name", "labels"} and len(line["labels"]) == 10
    assert np.array(Image.open(tmp_path / "drawn/00000_black.png").convert("RGB")).max() > 100  # the labels, in green
    (line,) = predict("student", weights("student"), *options, "0.99")
    assert line["labels"] == {}


def test_the_threshold_of_a_run_is_the_one_that_it_has_tuned(weights, predict, tmp_path, capsys):
    Image.fromarray(np.zeros((60, 90, 3), np.uint8)).save(tmp_path / "black.png")
    photo = ["--input", tmp_path / "black.png"]
    path = weights("student")
    (line,) = predict("student", path, *photo, "--threshold", "0")
    middle = sorted(line["labels"].values())[4]
    path = path.rename(tmp_path / "model_final.pth")
    with pytest.raises(SystemExit):
        predict("student", path, *photo)
    text = "the results.json of a complete run, whose tuned threshold would be used: give --threshold"
    assert f"{path} is not model_final.pth beside {text}" in capsys.readouterr().err
    results = {"val": {"multilabel": {"threshold": middle}}, "test": {"multilabel": {"threshold": 1.0}}}
    (tmp_path / "results.json").write_text(json.dumps(results))
    (found,) = predict("student", path, *photo)
    assert found["labels"] == {name: p for name, p in line["labels"].items() if p >= middle}


def test_wrong_weights_and_images_are_errors_of_one_line(weights, predict, tmp_path, capsys):
    for file, message in (
        (
            weights("student"),
            r"student.pth does not fit the model .*: .*keys missing .*: backbone.*, cls_branch.bias.* and \d+ more",
        ),
        ("none.pth", "error: checkpoint 'none.pth' does not exist: train the model first"),
        (weights("teacher"), f"error: {tmp_path}/a.png cannot be read as an image"),
    ):
        with pytest.raises(SystemExit) as caught:
            predict("teacher", file, "--input", tmp_path / "a.png", "--threshold", "0.5")
        assert caught.value.code == 2 and re.search(message, capsys.readouterr().err.splitlines()[-1])


def test_a_split_that_the_config_does_not_have_is_an_error_of_the_arguments(predict, capsys):
    with pytest.raises(SystemExit):
        predict("stage1", "none.pth", "--split", "test")
    assert (
        "error: --split test: entries of dataloader.test in the config: none, as this stage trains no classifier"
        in capsys.readouterr().err
    )


def test_photos_get_the_proposals_that_t_wdet_was_trained_with(predict, weights, capsys, restore_catalogs):
    file, photo = weights("teacher"), ["--input", "a.png"]
    with pytest.raises(SystemExit):
        predict("teacher", file, *photo, "proposals.method=detector")
    assert "error: the detector has no config" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        predict("teacher", file, *photo, "model.proposer=null")
    assert "error: --input: model.proposer is null, and T-WDet needs proposals" in capsys.readouterr().err


@pytest.fixture
def shapes(load_config, restore_catalogs, tmp_path):
    """Overrides of a dataset with the classes ball, box, wedge, weights of S-Cls for it, and a photo."""
    folder = tmp_path / "shapes"
    folder.mkdir()
    for name in ("train", "val", "test"):
        (folder / f"{name}.csv").write_text("file,labels\na.png,ball;box\nb.png,wedge\n")
    Image.fromarray(np.full((30, 40, 3), 200, np.uint8)).save(tmp_path / "photo.png")
    overrides = [f"dataset.files.{split}={folder}/{split}.csv" for split in ("train", "val", "test")]
    overrides.insert(0, "dataset.name=shapes")
    model = instantiate(load_config("small/student.py", *overrides).model)
    torch.save({"model": model.state_dict()}, tmp_path / "shapes.pth")
    return overrides, tmp_path / "shapes.pth", ["--input", tmp_path / "photo.png", "--threshold", "0"]


@pytest.mark.parametrize("given", ["nothing", "preset", "dataset", "name only"])
def test_photos_need_no_dataset(given, shapes, predict, restore_catalogs, tmp_path):
    """The classes are those of the weights, also if the files of the dataset are gone or the recipe has another."""
    overrides, weights, photo = shapes
    (tmp_path / "shapes").rename(tmp_path / "moved")
    config = tmp_path / "unnamed.py"  # a recipe without a dataset
    config.write_text(
        "from detectron2.config import LazyConfig\n"
        "globals().update(LazyConfig.load('configs/small/student.py'))\n"
        "dataset.name = '???'\n"
    )
    words = {"nothing": [], "preset": [], "dataset": overrides, "name only": ["dataset.name=shapes_elsewhere"]}[given]
    (line,) = predict(config if given == "nothing" else "student", weights, *photo, *words)
    assert sorted(line["labels"]) == ["ball", "box", "wedge"]


def test_a_dataset_with_other_classes_is_an_error_that_shows_both(
    shapes, weights, predict, restore_catalogs, tmp_path, capsys
):
    overrides, file, photo = shapes
    other = "[wedge,box,ball]"
    permuted = [word.replace("name=shapes", "name=permuted") for word in overrides] + [f"dataset.classes={other}"]
    text = "the weights have 3 classes (ball, box, wedge), the model has 3 (wedge, box, ball)"
    for words, message in (
        ([*photo, *permuted], text),
        (
            [*photo, "dataset.name=digit_scenes"],
            "the weights have 3 classes (ball, box, wedge), the model has 10 (zero,",
        ),
        (permuted, text),
    ):
        with pytest.raises(SystemExit) as caught:
            predict("student", file, *words)
        assert caught.value.code == 2
        assert f"{file} does not fit the model of this config: other classes: {message}" in capsys.readouterr().err
    (tmp_path / "shapes").rename(tmp_path / "moved")
    with pytest.raises(SystemExit):
        predict("student", file, *photo, *permuted[1:], "dataset.name=gone")
    assert text in capsys.readouterr().err


def test_weights_without_class_names_are_an_error(shapes, predict, tmp_path, capsys):
    _, file, photo = shapes
    state = torch.load(file, weights_only=True)["model"]
    unnamed = {key: value for key, value in state.items() if not key.startswith("class_names")}
    torch.save({"model": unnamed}, tmp_path / "unnamed.pth")
    with pytest.raises(SystemExit):
        predict("student", tmp_path / "unnamed.pth", *photo)
    assert "unnamed.pth has no class names: give the checkpoint of a training" in capsys.readouterr().err
    (tmp_path / "classes.txt").write_text("ball\nbox\nwedge\n")
    tool = ["tools/convert_weights.py", "checkpoint", tmp_path / "unnamed.pth", tmp_path / "named.pth", "--classes"]
    in_process(*tool, tmp_path / "classes.txt")
    capsys.readouterr()
    (line,) = predict("student", tmp_path / "named.pth", *photo, "dataset.name=gone")
    assert sorted(line["labels"]) == ["ball", "box", "wedge"]
    (tmp_path / "classes.txt").write_text("ball\nbox\n")
    with pytest.raises(SystemExit):
        in_process(*tool, tmp_path / "classes.txt")
    assert "unnamed.pth has [3] outputs in its classification layers" in capsys.readouterr().err
