import wsd_distill  # noqa: F401  (first: it patches Detectron2 0.6 for a current PyTorch)

# isort: split
from pathlib import Path

import cv2
import pytest
from detectron2.data import DatasetCatalog
from helpers.builders import own_images
from helpers.running import in_process
from PIL import Image

from wsd_distill.data.proposal_store import ProposalStore
from wsd_distill.proposals import generate
from wsd_distill.proposals.generators import EdgeBoxes

GENERATE = ["tools/generate_proposals.py", "--num-workers", "0"]
SPLITS = ("train", "val", "test")
PROPOSER = "image_proposals.proposer"


@pytest.fixture
def own(monkeypatch, tmp_path, restore_catalogs):
    """A function that runs the tool for the image lists train.csv, val.csv and test.csv: three images, one and one."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    for split, count in zip(SPLITS, (3, 1, 1)):
        lines = ["file,labels"]
        for number in range(count):
            image = Image.new("RGB", (60, 40), (40, 40, 40))
            image.paste((220, 80, 60), (10 + number, 8, 40, 30))
            image.save(tmp_path / f"{split}{number}.png")
            lines.append(f"{split}{number}.png,cat")
        (tmp_path / f"{split}.csv").write_text("\n".join(lines) + "\n")
    overrides = own_images(*(tmp_path / f"{split}.csv" for split in SPLITS))

    def run(*arguments):
        """``OWN`` among the arguments stands for the overrides."""
        arguments = arguments if "OWN" in arguments else ["OWN", *arguments]
        words = [word for argument in arguments for word in (overrides if argument == "OWN" else [argument])]
        in_process(*GENERATE, "--config-file", "configs/efficientnet_lite0/teacher.py", *words)
        return sorted(path.name for path in (tmp_path / "proposals").glob("*.arrow"))

    return run


def test_overrides_reach_the_generator(own, tmp_path):
    sizes = [f"{PROPOSER}.sides=[128]", f"{PROPOSER}.hysteresis=[40,80]", f"{PROPOSER}.min_box_area=200"]
    assert own(f"{PROPOSER}.max_boxes=5", *sizes) == [f"pets_{split}_edge_boxes.arrow" for split in sorted(SPLITS)]
    store = ProposalStore(tmp_path / "proposals" / "pets_train_edge_boxes.arrow")
    assert store.metadata.generator == "edge_boxes"
    assert store.metadata.parameters == {
        "max_boxes": 5,
        "sides": [128],
        "alpha": 0.65,
        "beta": 0.55,
        "min_score": 0.01,
        "min_box_area": 200,
        "hysteresis": [40, 80],
        "edge_model": None,
    }
    assert len(store) == 3


def test_selective_search_in_shards(own, tmp_path):
    """A few images are one part: the second shard has nothing to do, the first makes the stores."""
    common = ["--method", "selective_search", f"{PROPOSER}.mode=quality", f"{PROPOSER}.max_boxes=4"]
    assert own(*common, "--shard", "2/2") == []
    assert own(*common, "--shard", "1/2") == [f"pets_{split}_selective_search.arrow" for split in sorted(SPLITS)]
    store = ProposalStore(tmp_path / "proposals" / "pets_train_selective_search.arrow")
    assert (len(store), store.metadata.parameters["mode"]) == (3, "quality")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--method", "detector", f"{PROPOSER}.edge_model=m"], f"no key '{PROPOSER}.edge_model'"),
        ([f"{PROPOSER}.alpha=0.5", "--method", "selective_search"], f"no key '{PROPOSER}.alpha'"),
        (["--method", "detector", f"{PROPOSER}.beta=0.6"], f"no key '{PROPOSER}.beta'"),
        ([f"{PROPOSER}.mode=fast"], f"no key '{PROPOSER}.mode'"),
        (["--method", "edge"], "proposals.method=edge: choose from edge_boxes, selective_search, detector"),
        (["--method", "detector"], "the detector has no config"),
        (["--method", "detector", "detector.config=no.yaml", "detector.weights=w"], "no.yaml is neither a file nor"),
        ([f"{PROPOSER}.edge_model=no.yml.gz"], "edge_model: no structured-forest model no.yml.gz"),
        ([f"{PROPOSER}.sides=[0]"], "sides [0]: "),
        (["--shard", "3/2"], "3/2 is "),
        (["--ray"], "--num-workers is of this machine, and --ray uses the CPUs of the cluster"),
    ],
)
def test_settings_that_would_be_ignored_or_are_missing_are_errors(own, tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit):
        own(*arguments)
    assert message in capsys.readouterr().err
    assert not (tmp_path / "proposals").exists()


def test_a_wrong_list_stops_the_tool_before_the_first_store(own, tmp_path, capsys):
    (tmp_path / "val.csv").write_text("file,labels\nval.png,cta\n")
    with pytest.raises(SystemExit):
        own()
    message = f"error: {tmp_path}/val.csv, line 2: label 'cta' is not in the list of 1 classes"
    assert message in capsys.readouterr().err
    assert not (tmp_path / "proposals").exists()


def test_a_missing_opencv_module_stops_the_tool_before_the_first_image(own, tmp_path, capsys, monkeypatch):
    monkeypatch.delattr(cv2, "ximgproc")
    for method in ("edge_boxes", "selective_search"):
        with pytest.raises(SystemExit) as caught:
            own("--method", method)
        assert caught.value.code == 2
        assert f"error: {method} calls cv2.ximgproc." in capsys.readouterr().err
    assert not (tmp_path / "proposals").exists()


def test_a_missing_list_is_an_error_of_the_arguments(own, tmp_path, capsys):
    (tmp_path / "train.csv").unlink()
    with pytest.raises(SystemExit):
        own()
    assert f"error: dataset.files.train={tmp_path}/train.csv is missing" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, splits",
    [
        (["OWN", "--overwrite", f"{PROPOSER}.max_boxes=9"], ["test", "train", "val"]),
        (["OWN", "dataset.train=pets_val", "dataset.test=pets_val"], ["val"]),
        (["dataset.train=pets_val", "--overwrite", "OWN"], ["test", "val"]),
    ],
)
def test_overrides_are_accepted_at_any_position(own, arguments, splits):
    assert own(*arguments) == [f"pets_{split}_edge_boxes.arrow" for split in splits]


@pytest.fixture
def parse(monkeypatch, restore_catalogs):
    """A function: arguments -> names of the datasets and the proposer; nothing is loaded or computed."""

    def run(*arguments):
        calls = []
        monkeypatch.setattr(DatasetCatalog, "get", lambda name: [])
        monkeypatch.setattr(
            generate, "generate", lambda dicts, name, proposer, *_, **__: calls.append((name, proposer))
        )
        in_process(*GENERATE, *arguments)
        names, proposers = zip(*calls)
        return list(names), proposers[0]

    return run


CONFIGS = Path(__file__).parents[2] / "configs"
DIGITS = EdgeBoxes(max_boxes=64, sides=(192,), hysteresis=(60, 120), alpha=0.55, beta=0.5)
STORES = {
    ("vgg16", "coco_2014"): ["coco_2014_train_mlc", "coco_2014_val_mlc"],
    ("small", "digit_scenes"): [f"digit_scenes_{split}" for split in SPLITS],
    ("vgg16", "nus_wide"): ["nuswide_train", "nuswide_test"],
    ("vgg16", "voc_2007"): ["voc_2007_trainval_mlc", "voc_2007_test_mlc"],
    ("efficientnet_lite0", "voc5"): ["voc5_train", "voc5_val"],
    ("efficientnet_lite0", "coco3k"): [f"coco3k_{split}" for split in SPLITS],
}


@pytest.mark.parametrize("recipe, name", STORES)
def test_a_recipe_and_the_name_of_a_dataset_are_enough(parse, recipe, name):
    names, proposer = parse("--config-file", CONFIGS / recipe / "stage1.py", f"dataset.name={name}")
    assert sorted(names) == sorted(STORES[recipe, name])
    sides = (320,) if recipe == "efficientnet_lite0" else (192, 320, 640)
    assert proposer == (DIGITS if name == "digit_scenes" else EdgeBoxes(max_boxes=500, sides=sides))


def test_a_proposer_other_than_the_method_of_the_stores_is_an_error(own, tmp_path, capsys):
    other = "wsd_distill.proposals.generators.SelectiveSearch"
    with pytest.raises(SystemExit):
        own(f"{PROPOSER}._target_={other}")
    assert "image_proposals.proposer is selective_search, but proposals.method is edge_boxes" in capsys.readouterr().err
    assert not (tmp_path / "proposals").exists()


def test_the_recipe_of_the_detector_is_accepted(parse):
    names, proposer = parse("--config-file", CONFIGS / "small/faster_rcnn.py")
    assert sorted(names) == sorted(STORES["small", "digit_scenes"]) and proposer == DIGITS
