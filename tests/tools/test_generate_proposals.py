import wsd_distill  # noqa: F401  (first: it mends Detectron2 0.6 on a current PyTorch)

# isort: split
import pytest
from builders import own_images
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image
from running import in_process

from wsd_distill.data.proposal_store import ProposalStore

GENERATE = ["tools/generate_proposals.py", "--num-workers", "0"]
SPLITS = ("train", "val", "test")


@pytest.fixture
def tool(tmp_path, forget):
    """A function that runs the tool in this process for a data set of three pictures; output in tmp_path."""
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
    assert "--max-boxes: give --method, or change the config's on_image.proposer" in capsys.readouterr().err


@pytest.fixture
def own(monkeypatch, tmp_path, forget):
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
        (["OWN", "--overwrite", "on_image.proposer.max_boxes=9"], ["test", "train", "val"]),
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
    assert "on_image.proposer is edge_boxes, but proposals.method is detector" in capsys.readouterr().err
