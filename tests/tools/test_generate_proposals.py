import wsd_distill  # noqa: F401  (first: it patches Detectron2 0.6 for a current PyTorch)

# isort: split
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from helpers.builders import own_images
from helpers.running import in_process
from PIL import Image

from wsd_distill.data.proposal_store import ProposalStore
from wsd_distill.engine import cli
from wsd_distill.proposals import generate
from wsd_distill.proposals.generators.edge_boxes import EdgeBoxes

GENERATE = ["tools/generate_proposals.py", "--num-workers", "0"]
SPLITS = ("train", "val", "test")


@pytest.fixture
def tool(tmp_path, restore_catalogs):
    """A function that runs the tool in this process for a dataset of three pictures; output in tmp_path."""
    dicts = []
    for number in range(3):
        file = tmp_path / f"{number}.png"
        picture = Image.new("RGB", (60, 40), (40, 40, 40))
        picture.paste((220, 80, 60), (10 + number, 8, 40, 30))
        picture.save(file)
        dicts.append({"image_id": number, "file_name": str(file), "height": 40, "width": 60})
    DatasetCatalog.register("three_pictures", lambda: dicts)

    def run(*arguments):
        in_process(*GENERATE, "--dataset", "three_pictures", *arguments, "--output", tmp_path / "out.arrow")

    return run


def test_options_reach_the_method(tool, tmp_path):
    tool("--max-boxes", "5", "--sides", "128", "--hysteresis", "40", "80", "--min-box-area", "200")
    store = ProposalStore(tmp_path / "out.arrow")
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


def test_selective_search_in_shards(tool, tmp_path):
    """Three images are one part: the second shard has nothing to do, the first makes the store."""
    common = ["--method", "selective_search", "--mode", "quality", "--max-boxes", "4"]
    tool(*common, "--shard", "2/2")
    assert not (tmp_path / "out.arrow").exists()
    tool(*common, "--shard", "1/2")
    store = ProposalStore(tmp_path / "out.arrow")
    assert (len(store), store.metadata.parameters["mode"]) == (3, "quality")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--method", "detector", "--edge-model", "m"], "--method detector has no --edge-model"),
        (
            ["--alpha", "0.5", "--max-boxes", "9", "--method", "selective_search"],
            "--method selective_search has no --alpha",
        ),
        (["--beta", "0.6", "--device", "cpu", "--method", "detector"], "--method detector has no --beta"),
        (["--mode", "fast"], "--method edge_boxes has no --mode"),
        (["--method", "detector"], "--method detector needs --detector-config, --weights"),
        (["--method", "detector", "--detector-config", "no.yaml", "--weights", "w"], "no.yaml is neither a file nor"),
        (["--edge-model", "no.yml.gz"], "no structured-forest edge model no.yml.gz"),
        (["--sides", "0"], "sides [0]: give one or several positive numbers of pixels"),
        (["--shard", "3/2"], "3/2 is no shard: the second of eight is 2/8"),
    ],
)
def test_options_that_would_be_ignored_or_are_missing_are_errors(tool, capsys, arguments, message):
    with pytest.raises(SystemExit):
        tool(*arguments)
    assert message in capsys.readouterr().err


def test_options_beside_a_configs_own_proposer_are_an_error(tool, capsys):
    with pytest.raises(SystemExit):
        tool("--config-file", "configs/digit_scenes/data.py", "--max-boxes", "3")
    assert "--max-boxes: give --method, or change the config's image_proposals.proposer" in capsys.readouterr().err


@pytest.fixture
def own(monkeypatch, tmp_path, restore_catalogs):
    """A function that runs the tool for the image lists train.csv, val.csv and test.csv of one picture each."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    for split in SPLITS:
        Image.new("RGB", (60, 40), (40, 80, 120)).save(tmp_path / f"{split}.png")
        (tmp_path / f"{split}.csv").write_text(f"file,labels\n{split}.png,cat\n")
    overrides = own_images(*(tmp_path / f"{split}.csv" for split in SPLITS))

    def run(*arguments):
        """``OWN`` among the arguments stands for the overrides."""
        words = [word for argument in arguments for word in (overrides if argument == "OWN" else [argument])]
        in_process(*GENERATE, "--config-file", "configs/image_list/data.py", *words)
        return sorted(path.name for path in (tmp_path / "proposals").iterdir())

    return run


def test_a_wrong_list_stops_the_tool_before_the_first_store(own, tmp_path, capsys):
    (tmp_path / "val.csv").write_text("file,labels\nval.png,cta\n")
    with pytest.raises(SystemExit):
        own("OWN")
    message = f"error: {tmp_path}/val.csv, line 2: label 'cta' is not in the list of 1 classes"
    assert message in capsys.readouterr().err
    assert not (tmp_path / "proposals").exists()


def test_a_missing_list_is_an_error_of_the_arguments(own, tmp_path, capsys):
    (tmp_path / "train.csv").unlink()
    with pytest.raises(SystemExit):
        own("OWN")
    assert f"error: {tmp_path}/train.csv is missing" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, splits",
    [
        (["OWN", "--overwrite", "image_proposals.proposer.max_boxes=9"], ["test", "train", "val"]),
        (["OWN", "--dataset", "pets_val"], ["val"]),
        (["--dataset", "pets_val", "pets_test", "OWN"], ["test", "val"]),
        (["--dataset", "pets_val", "--overwrite", "OWN"], ["val"]),
    ],
)
def test_overrides_stand_anywhere(own, arguments, splits):
    assert own(*arguments) == [f"pets_{split}_edge_boxes.arrow" for split in splits]


def test_a_part_named_by_hand_gets_the_store_of_its_whole(tool, tmp_path):
    MetadataCatalog.get("two_of_three").set(source="three_pictures")
    DatasetCatalog.register("two_of_three", lambda: DatasetCatalog.get("three_pictures")[:2])
    tool("two_of_three")  # behind --dataset three_pictures: one store for both
    store = ProposalStore(tmp_path / "out.arrow")
    assert (len(store), store.metadata.dataset_name) == (3, "three_pictures")


def test_a_proposer_that_is_not_the_method_of_the_stores_is_an_error(tool, capsys):
    with pytest.raises(SystemExit):
        tool("--config-file", "configs/voc5/data.py", "proposals.method=detector")
    assert "image_proposals.proposer is edge_boxes, but proposals.method is detector" in capsys.readouterr().err


@pytest.fixture
def parse(monkeypatch, restore_catalogs):
    """A function: arguments -> names of the datasets and the proposer; no dataset is loaded, nothing is made."""

    def run(*arguments):
        asked = []
        monkeypatch.setattr(cli, "load_datasets", lambda parser, names: dict.fromkeys(names, []))
        monkeypatch.setattr(
            generate, "generate", lambda dicts, name, proposer, *_, **__: asked.append((name, proposer))
        )
        in_process(*GENERATE, *arguments)
        names, proposers = zip(*asked)
        return list(names), proposers[0]

    return run


CONFIGS = Path(__file__).parents[2] / "configs"
DATA_CONFIGS = sorted(path.parent.name for path in CONFIGS.glob("*/data.py") if path.parent.name != "common")
DIGITS = EdgeBoxes(max_boxes=64, sides=(192,), hysteresis=(60, 120), alpha=0.55, beta=0.5)
STORES = {
    "coco": ["coco_2014_train_mlc", "coco_2014_val_mlc"],
    "digit_scenes": [f"digit_scenes_{split}" for split in SPLITS],
    "image_list": [f"pets_{split}" for split in SPLITS],
    "nus_wide": ["nuswide_train", "nuswide_test"],
    "voc": ["voc_2007_trainval_mlc", "voc_2007_test_mlc"],
    "voc5": ["voc5_train", "voc5_val"],
}


@pytest.mark.parametrize("name", DATA_CONFIGS)
def test_the_config_of_every_data_set_says_all_that_is_needed(parse, tmp_path, name):
    (tmp_path / "a.csv").write_text("file,labels\n0.png,cat\n")
    own = own_images(tmp_path / "a.csv") if name == "image_list" else []
    names, proposer = parse("--config-file", CONFIGS / name / "data.py", *own)
    assert sorted(names) == sorted(STORES[name])
    assert proposer == (DIGITS if name == "digit_scenes" else EdgeBoxes(max_boxes=500))


def test_a_config_without_a_generator_is_an_error_unless_a_method_is_given(parse, tmp_path, capsys):
    (tmp_path / "own.py").write_text(
        "dataset = dict(register=[], **dict.fromkeys(['train', 'val', 'test'], 'voc_2007_val_mlc'))"
    )
    with pytest.raises(SystemExit):
        parse("--config-file", tmp_path / "own.py")
    assert (
        "error: the config has no image_proposals, whose proposer it would be: give --method" in capsys.readouterr().err
    )
    names, proposer = parse("--config-file", tmp_path / "own.py", "--method", "edge_boxes", "--max-boxes", "7")
    assert (names, proposer) == (["voc_2007_val_mlc"], EdgeBoxes(max_boxes=7))


def test_a_generator_that_cannot_be_made_is_an_error_of_the_arguments(parse, capsys):
    with pytest.raises(SystemExit):
        parse("--config-file", CONFIGS / "coco/teacher_vgg16_fasterrcnn.py")
    assert "error: the detector has no config: give a file, or a name in" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        parse("--config-file", CONFIGS / "digit_scenes/data.py", "image_proposals.proposer.sides=[0]")
    assert "error: sides [0]: give one or several positive numbers" in capsys.readouterr().err
