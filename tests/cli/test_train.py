"""wsd train: from a CSV to a model folder that labels a photo."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers.tagged_photos import SMALL, write_photos
from omegaconf import OmegaConf
from PIL import Image

from wsd_distill import Tagger
from wsd_distill.cli import main
from wsd_distill.data.datasets import SPLITS
from wsd_distill.data.proposal_store import ProposalStore
from wsd_distill.io import file_lock
from wsd_distill.pipeline import tagger_training


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tagger_training, "CANDIDATES", tagger_training.CANDIDATES[:3:2])  # plain, and one with T-WDet
    write_photos(tmp_path)
    return tmp_path


def test_from_tags_to_a_tagger(photos, capsys, restore_catalogs):
    command = ["train", "tags.csv", "--images", "photos", "--out", "pets", "--set", *SMALL]
    assert main(command) == 0, capsys.readouterr().err
    printed = capsys.readouterr().out
    assert "labels are separated by '|'" in printed and "kept: " in printed
    unknown = [
        x for split in ("train", "val", "test") for x in pq.read_table(f"pets/lists/{split}.parquet").to_pylist()
    ]
    assert {x["file"]: x["unknown"] for x in unknown if x["unknown"]} == {"0.png": ["dog"]} and len(unknown) == 24
    result = {
        name: json.loads((photos / f"pets/runs/seed0/{name}/results.json").read_text())
        for name in ("student", "region_consistent")
    }
    best = max(result, key=lambda name: result[name]["val"]["multilabel"]["mAP"])
    tagger = Tagger.load("pets/model")
    assert tagger.classes == ["cat", "dog"] and tagger.config.image_size == 64
    assert tagger.config.metrics["test"]["mAP"] == pytest.approx(result[best]["test"]["multilabel"]["mAP"])
    with np.load(photos / f"pets/runs/seed0/{best}/inference/test/scores.npz") as file:
        logits = np.log(file["scores"] / (1 - file["scores"]))
        names = [f"photos/{name}" for name in file["image_ids"]]
    calibration = tagger.config.calibration
    expected = 1 / (1 + np.exp(-(calibration["scale"] * logits + calibration["offset"])))
    found = tagger.probabilities(np.stack([tagger.read(name) for name in names]))
    np.testing.assert_allclose(found, expected, atol=1e-3)  # of the evaluation, by another runtime
    assert main(command) == 2 and "go on with --resume" in capsys.readouterr().err
    assert main([*command, "--resume", "--budget", "2h"]) == 2 and "another --budget" in capsys.readouterr().err
    assert main([*command[:-2], "--resume"]) == 2 and "plan.json is of --set" in capsys.readouterr().err
    assert main([*command[:-1], "--resume"]) == 0  # nothing is trained again; the last key does not change results
    assert "model.onnx" in {path.name for path in (photos / "pets/model").iterdir()}
    assert (photos / "pets/report.html").read_text().count("data:image/jpeg;base64,") > 0


def test_photos_without_tags_train_the_distilled_student_alone(photos, capsys, restore_catalogs):
    """Copies of tagged photos are left out; proposals are in one store, which the teacher reads too."""
    (photos / "more").mkdir()
    rng = np.random.default_rng(5)
    for i in range(3):
        grey = rng.integers(0, 250, (8, 8), np.uint8).repeat(8, 0).repeat(8, 1)
        Image.fromarray(np.stack([grey] * 3, 2)).save(photos / f"more/new{i}.png")
    for i in range(24):
        (photos / f"more/copy{i}.png").write_bytes((photos / f"photos/{i}.png").read_bytes())
    command = ["train", "tags.csv", "--images", "photos", "--out", "pets", "--unlabelled", "more"]
    assert main([*command, "--set", *SMALL]) == 0, capsys.readouterr().err
    printed = capsys.readouterr().out
    assert "Photos without tags: 3 of 27 are used." in printed and "val or test has the same" in printed
    sizes = {split: pq.read_metadata(photos / f"pets/lists/{split}.parquet").num_rows for split in SPLITS}
    held_out = f"{sizes['val'] + sizes['test']} are left out, because val or test has"
    assert held_out in printed
    store = ProposalStore("pets/proposals/train.arrow")
    assert len(store) == sizes["train"] + 3 and sum("unlabelled/" in name for name in store) == 3
    both = "pets_train_with_pets_unlabelled"
    for name, dataset in (("student", "pets_train"), ("teacher", "pets_train"), ("region_consistent", both)):
        assert OmegaConf.load(photos / f"pets/runs/seed0/{name}/config.yaml").dataset.train == dataset
    assert main(["train", "tags.csv", "--images", "photos", "--out", "pets", "--resume", "--set", *SMALL]) == 2
    error = capsys.readouterr().err
    assert "unlabelled.parquet is of other tags or photos: give the TAGS" in error
    assert "--unlabelled and --decisions of the first start again" in error


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--set", "dataset.name=pets"], "wsd train sets this itself"),
        (["--budget", "soon"], "write a time like 2h"),
        (["--budget", "2h", "--set", "train.student_size=64"], "--budget chooses this"),
        (["--budget", "2h", "--set", "train.epochs=3"], "--budget chooses this"),
        (
            ["--recipe", "resnet"],
            "configs/resnet/teacher.py does not exist: choose another --recipe: efficientnet_lite0, ",
        ),
        (["--recipe", "vgg16"], "--recipe vgg16 has no train.student_size"),
        (["--set", "train.student_sizes=64"], "no config of these runs has this key; did you mean train.student_size"),
        (["--classes", "nope.txt"], "--classes nope.txt: there is no such file"),
        (["--out", "/proc/pets"], "--out /proc/pets: /proc cannot be written to ("),
        (["--out", "tags.csv/pets"], "--out tags.csv/pets: "),
        (["--out", "photos"], "photos is not empty and not of wsd train"),
        (["--out", "tags.csv"], "tags.csv is a file: give a new folder"),
    ],
)
def test_wrong_arguments(photos, capsys, restore_catalogs, arguments, message):
    """The second start gets the same error: --out is free until a plan is made."""
    for _ in range(2):
        assert main(["train", "tags.csv", "--images", "photos", "--out", "pets", *arguments]) == 2
        assert message in capsys.readouterr().err
    assert not (photos / "pets/plan.json").exists()


def test_a_second_training_in_the_same_folder_is_an_error(photos, capsys, restore_catalogs, no_lock_timeout):
    (photos / "pets").mkdir()
    with file_lock(photos / "pets/.lock"):
        assert main(["train", "tags.csv", "--images", "photos", "--out", "pets"]) == 2
    assert f"another process is using {photos}/pets: wait for it or stop it" in capsys.readouterr().err
    assert not (photos / "pets/plan.json").exists()


def test_tags_that_cannot_be_learned_end_it_before_the_training(photos, capsys):
    lines = (photos / "tags.csv").read_text().splitlines()
    (photos / "tags.csv").write_text("\n".join([lines[0], *(f"{line.partition(',')[0]},cat" for line in lines[1:])]))
    assert main(["train", "tags.csv", "--images", "photos", "--out", "pets"]) == 2
    assert "error: There is one class only, cat. Add a second class" in capsys.readouterr().err
    assert not (photos / "pets").exists()
