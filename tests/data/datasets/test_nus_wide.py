import logging

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from wsd_distill.data.datasets import nus_wide

CONCEPTS = ["airport", "birds", "sky"]
TRAIN = {"airport\\1_11": "101", "sky\\2_12": "001", "bear\\3_13": "000", "birds\\4_14": "010"}
TEST = {"sky\\5_15": "001", "airport\\6_16": "000", "sky\\7_17": "011"}


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """The official layout with three concepts; two of the seven images have no label, three are for training."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    monkeypatch.setattr(nus_wide, "CLASSES", CONCEPTS)
    monkeypatch.setattr(nus_wide, "TRAIN_IMAGES", 3)
    folder = tmp_path / "nuswide"
    for name in ("ImageList", "ConceptsList", "Groundtruth/TrainTestLabels"):
        (folder / name).mkdir(parents=True)
    (folder / "ConceptsList" / "Concepts81.txt").write_text("\n".join(CONCEPTS) + "\n")
    for part, images in {"Train": TRAIN, "Test": TEST}.items():
        (folder / "ImageList" / f"{part}Imagelist.txt").write_text("".join(f"{path}.jpg\r\n" for path in images))
        for k, concept in enumerate(CONCEPTS):
            file = folder / "Groundtruth" / "TrainTestLabels" / f"Labels_{concept}_{part}.txt"
            file.write_text("".join(f"{flags[k]}\n" for flags in images.values()))
    return folder


def ids(records):
    return [record["image_id"] for record in records]


def test_official_split(tree, caplog):
    with caplog.at_level(logging.INFO):
        train = nus_wide.load_nus_wide_official("train")
    assert ids(train) == ["airport/1_11.jpg", "sky/2_12.jpg", "birds/4_14.jpg"]
    assert [record["labels"] for record in train] == [[0, 2], [2], [1]]
    assert train[0]["file_name"] == str(tree / "Flickr" / "airport" / "1_11.jpg")
    assert "train: 1 of 4 images dropped: no label" in caplog.text
    assert ids(nus_wide.load_nus_wide_official("test")) == ["sky/5_15.jpg", "sky/7_17.jpg"]


def test_concept_list_in_the_root_folder(tree):
    (tree / "ConceptsList" / "Concepts81.txt").rename(tree / "Concepts81.txt")
    assert len(nus_wide.load_nus_wide_official("train")) == 3


def test_split_by_hash_of_the_path(tree, caplog, monkeypatch):
    """The hashes are 0d61ea01, 1674cec4, 627cc61e, 85b3ee91, 87f82af3 (sha256sum)."""
    order = ["birds/4_14.jpg", "airport/1_11.jpg", "sky/7_17.jpg", "sky/2_12.jpg", "sky/5_15.jpg"]
    with caplog.at_level(logging.INFO):
        train, test = nus_wide.load_nus_wide("train"), nus_wide.load_nus_wide("test")
    assert ids(train) == order[:3]
    assert ids(test) == order[3:]
    assert "2 of 7 images dropped: no label" in caplog.text
    assert "split by SHA-256 of the path" in caplog.text
    monkeypatch.setattr(nus_wide, "TRAIN_IMAGES", 5)
    with pytest.raises(ValueError, match="5 labelled images, expected more than 5"):
        nus_wide.load_nus_wide("train")


def test_split_by_list(tree):
    (tree / "splits").mkdir()
    (tree / "splits" / "train.txt").write_text("sky\\7_17.jpg\nairport/1_11.jpg\n")
    (tree / "splits" / "test.txt").write_text("sky/5_15.jpg\n")
    assert ids(nus_wide.load_nus_wide("train")) == ["sky/7_17.jpg", "airport/1_11.jpg"]
    assert nus_wide.load_nus_wide("test")[0]["labels"] == [2]


@pytest.mark.parametrize(
    "train, test, message",
    [
        ("sky/7_17.jpg\nsky/7_17.jpg\n", "", r"train\.txt: image 'sky/7_17\.jpg' is listed twice"),
        ("sky/7_17.jpg\nbear/3_13.jpg\n", "", r"1 images are not among the 5 labelled .* 'bear/3_13\.jpg'"),
        ("sky/7_17.jpg\n", "sky/7_17.jpg\n", r"1 images are in both lists, for example 'sky/7_17\.jpg'"),
        ("sky/7_17.jpg\n", None, r"splits.test\.txt is missing"),
    ],
)
def test_invalid_split_lists_raise(tree, train, test, message):
    (tree / "splits").mkdir()
    for name, text in {"train": train, "test": test}.items():
        if text is not None:
            (tree / "splits" / f"{name}.txt").write_text(text)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        nus_wide.load_nus_wide("train")


@pytest.mark.parametrize(
    "file, text, message",
    [
        (
            "Groundtruth/TrainTestLabels/Labels_sky_Train.txt",
            "1\n0\n1\n",
            "each of the 4 images of .*TrainImagelist.txt, got 3 lines",
        ),
        ("Groundtruth/TrainTestLabels/Labels_sky_Train.txt", "1\n0\n1\n2\n", "expected 0 or 1"),
        ("Groundtruth/TrainTestLabels/Labels_sky_Test.txt", None, r"Labels_sky_Test\.txt is missing"),
        ("ImageList/TestImagelist.txt", None, r"TestImagelist\.txt is missing: see datasets/README"),
        ("ImageList/TestImagelist.txt", "a\nairport\\1_11.jpg\nb\n", r"image 'airport/1_11\.jpg' is listed twice"),
        ("ConceptsList/Concepts81.txt", "airport\nsky\nbirds\n", r"Concepts81\.txt does not list the 3 concepts"),
    ],
)
def test_contradicting_files_raise(tree, file, text, message):
    (tree / file).unlink()
    if text is not None:
        (tree / file).write_text(text)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        nus_wide.load_nus_wide("train")


CSV = """\ufefffilepath,label,split_name
images/a.jpg,"['clouds', 'sky']",train
images/b.jpg,['zebra'],val
images/c.jpg,[],train
images/d.jpg,['airport'],train
"""


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_csv(tmp_path, monkeypatch, caplog, newline):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    (tmp_path / "nuswide").mkdir()
    (tmp_path / "nuswide" / "nus_wid_data.csv").write_bytes(CSV.replace("\n", newline).encode())
    with caplog.at_level(logging.INFO):
        train, val = (DatasetCatalog.get(f"nuswide_csv_{split}") for split in ("train", "val"))
    names = MetadataCatalog.get("nuswide_csv_train").thing_classes
    assert [[names[k] for k in record["labels"]] for record in train] == [["clouds", "sky"], ["airport"]]
    assert train[0]["file_name"] == str(tmp_path / "nuswide" / "images" / "a.jpg")
    assert [record["labels"] for record in val] == [[80]]
    assert "1 of 3 images dropped" in caplog.text


@pytest.mark.parametrize(
    "row, message",
    [
        ("images/e.jpg,\"['clouds', 'skyy']\",train", "line 6: label 'skyy' is not in the .* 81 classes; .* 'sky'"),
        ("images/e.jpg,clouds,train", "line 6: 'clouds' is not a list of labels"),
        ("images/e.jpg,train", "line 6: 2 fields, the header has 3"),
        ("images/a.jpg,['sky'],train", r"image 'images/a\.jpg' is listed twice"),
    ],
)
def test_invalid_csv_rows_raise(tmp_path, monkeypatch, row, message):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    (tmp_path / "nuswide").mkdir()
    (tmp_path / "nuswide" / "nus_wid_data.csv").write_text(CSV + row, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        nus_wide.load_nus_wide_csv("train")


def test_classes_are_81_in_alphabetical_order():
    assert len(nus_wide.CLASSES) == 81 and sorted(set(nus_wide.CLASSES)) == nus_wide.CLASSES
    assert sum(nus_wide.LABELLED_IMAGES.values()) == 150_000 + 59_347
    assert MetadataCatalog.get("nuswide_test").expected_images == 59_347
