"""Wrong configs, overrides and names of datasets: one line from every tool, exit code 2."""

import argparse
from pathlib import Path

import pytest
from detectron2.config import LazyCall, instantiate
from detectron2.data import DatasetCatalog
from helpers.builders import own_images

from wsd_distill.engine.cli import (
    add_config_options,
    choose_datasets,
    describe_error,
    expand_paths,
    parse_with_config,
    report_user_errors,
)

CONFIG = str(Path(__file__).parents[2] / "configs" / "efficientnet_lite0" / "student.py")
OWN = own_images("list.csv")
SPLITS = ["pets_train", "pets_val", "pets_test"]
NAMES = ["pets_val", "pets_val", "pets_test"]


@pytest.fixture
def tool(monkeypatch, restore_catalogs, tmp_path):
    """A function: arguments -> words of --dataset, config, and dataset dicts by name."""
    (tmp_path / "list.csv").write_text("file,labels\na.png,cat\n")
    monkeypatch.chdir(tmp_path)

    def run(*words):
        parser = argparse.ArgumentParser("tool")
        parser.add_argument("--dataset", nargs="+")
        add_config_options(parser, "")
        monkeypatch.setattr("sys.argv", ["tool", *words])
        arguments, cfg = parse_with_config(parser, "dataset")
        names = choose_datasets(parser, arguments.dataset, cfg)
        with report_user_errors(parser):
            return arguments.dataset, cfg, names if arguments.dataset else {n: DatasetCatalog.get(n) for n in names}

    return run


def test_datasets_of_the_config_are_registered_and_the_default(tool, monkeypatch):
    load = {name: [f"dict of {name}"] for name in SPLITS}
    monkeypatch.setattr(DatasetCatalog, "get", load.__getitem__)
    words, cfg, dicts = tool("--config-file", CONFIG, *OWN, "dataloader.train.num_workers=5")
    assert (words, cfg.dataloader.train.num_workers, dicts) == ([], 5, load)


@pytest.mark.parametrize(
    "order",
    [["--dataset", *NAMES, *OWN, "--config-file", CONFIG], ["--config-file", CONFIG, *OWN, "--dataset", *NAMES]],
)
def test_given_names_replace_the_default_in_any_order_of_arguments(tool, order):
    words, _, chosen = tool(*order)
    assert (words, chosen) == (NAMES, ["pets_val", "pets_test"])


def test_a_word_with_a_slash_before_its_equals_sign_is_a_file(tool, capsys):
    with pytest.raises(SystemExit):
        tool("--config-file", CONFIG, *OWN, "--dataset", "./a=b.png")
    assert "error: not registered: ./a=b.png; there are" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, message",
    [
        ([], "name datasets with --dataset, or a config with --config-file"),
        (["--config-file", "gone.py"], "No such file or directory: 'gone.py'"),
        (["--config-file", "list.csv"], "Config file list.csv has to be a python or yaml file."),
        (["--config-file", CONFIG], "set dataset.name to one of coco3k, coco_2014"),
        (
            ["--config-file", CONFIG, *OWN, "dataset.nmae=x"],
            "the config has no key 'dataset.nmae'; did you mean dataset",
        ),
        (["--config-file", CONFIG, *OWN, "pets"], "'pets' is not an override: write key=value"),
        (["--config-file", CONFIG, *OWN, "dataset.files.train=[1"], "the value of 'dataset.files.train=[1' cannot be"),
        (
            ["--config-file", CONFIG, *OWN, "dataset.files.train=gone.csv"],
            "dataset.files.train=gone.csv is missing: set it to a list of images",
        ),
        (
            ["--config-file", CONFIG, *OWN, "dataset.files.val=gone.csv"],
            "dataset.files.val=gone.csv is missing: set it to a list of images",
        ),
        (["--config-file", CONFIG, *OWN, "--dataset", "pet"], "not registered: pet; there are"),
        (["dataset.name=x"], "dataset.name=x: an override needs --config-file"),
        (["--dataset", "pets", "a=1"], "a=1: an override needs --config-file"),
    ],
)
def test_user_errors_are_one_line(tool, capsys, words, message):
    with pytest.raises(SystemExit) as caught:
        tool(*words)
    *_, last = capsys.readouterr().err.splitlines()
    assert caught.value.code == 2
    assert last.startswith("tool: error: ") and message in last


def test_the_home_folder_in_options(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    found = expand_paths(argparse.Namespace(a="~/x", b=Path("~/y"), c=["~/z", 1], d=None, e="p=~/q"))
    assert vars(found) == {"a": "/home/me/x", "b": Path("/home/me/y"), "c": ["/home/me/z", 1], "d": None, "e": "p=~/q"}


def test_a_wrong_argument_in_a_config_is_one_line_and_a_fault_of_the_code_is_not(capsys):
    parser = argparse.ArgumentParser("tool")
    with pytest.raises(SystemExit), report_user_errors(parser):
        instantiate(LazyCall(own_images)(trian="list.csv"))
    error = capsys.readouterr().err  # without the usage
    assert error.startswith("tool: error: the config has a wrong argument: own_images() got an unexpected keyword arg")
    assert error.count("\n") == 1
    with pytest.raises(TypeError), report_user_errors(parser):
        len(1)


def test_the_message_of_a_loader_process_is_its_last_line():
    text = "Caught ImageError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n  File\n"
    error = RuntimeError(f"{text}wsd_distill.data.image.ImageError: a.jpg cannot be read (EOFError: it is empty)\n")
    assert describe_error(error) == "a.jpg cannot be read (EOFError: it is empty)"
    assert describe_error(RuntimeError("Error(s) in loading:\n\ta\n\tb")) == "Error(s) in loading: a b"
    assert describe_error(KeyError("no key")) == "no key"
