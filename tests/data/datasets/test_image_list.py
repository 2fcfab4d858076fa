import json

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from wsd_distill.data.datasets import register_image_list
from wsd_distill.data.datasets.image_list import load_image_list

ROWS = ["file,labels", "a.jpg,dog;cat", '"b, c.jpg", cat ; cat;', "sub/d.jpg,"]


def write(path, rows, newline="\n", encoding="utf-8"):
    path.write_bytes(newline.join([*rows, ""]).encode(encoding))
    return str(path)


def load(name):
    return [(record["image_id"], record["labels"]) for record in DatasetCatalog.get(name)]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_csv(tmp_path, restore_catalogs, newline, encoding):
    register_image_list("own", write(tmp_path / "own.csv", ROWS, newline, encoding), str(tmp_path / "photos"))
    metadata = MetadataCatalog.get("own")
    assert (metadata.thing_classes, metadata.evaluator_type) == (["cat", "dog"], "multilabel")
    assert load("own") == [("a.jpg", [0, 1]), ("b, c.jpg", [0]), ("sub/d.jpg", [])]
    assert DatasetCatalog.get("own")[2]["file_name"] == str(tmp_path / "photos" / "sub" / "d.jpg")


def test_json(tmp_path, restore_catalogs):
    entries = [{"file": "a.jpg", "labels": ["dog", "cat"]}, {"file": "/elsewhere/b.jpg", "labels": []}]
    (tmp_path / "own.json").write_text(json.dumps(entries))
    register_image_list("own", str(tmp_path / "own.json"))
    assert load("own") == [("a.jpg", [0, 1]), ("/elsewhere/b.jpg", [])]
    files = [record["file_name"] for record in DatasetCatalog.get("own")]
    assert files == [str(tmp_path / "a.jpg"), "/elsewhere/b.jpg"]


def test_classes_from_arguments_a_file_or_another_list(tmp_path, restore_catalogs):
    train = write(tmp_path / "train.csv", ROWS)
    val = write(tmp_path / "val.csv", ["file,labels", "v.jpg,dog"])
    register_image_list("given", val, classes=["dog", "cat"])
    assert load("given") == [("v.jpg", [0])]
    register_image_list("of_a_file", val, classes=write(tmp_path / "classes.txt", ["cow", "", "dog"]))
    assert load("of_a_file") == [("v.jpg", [1])]
    register_image_list("of_the_training_list", val, classes=train)
    assert MetadataCatalog.get("of_the_training_list").thing_classes == ["cat", "dog"]
    with pytest.raises(ValueError, match=r"duplicates: \['cat', 'cat'\]"):
        register_image_list("twice", val, classes=["cat", "cat"])


def test_splits_of_one_file_share_its_classes(tmp_path, restore_catalogs):
    file = write(tmp_path / "all.csv", ["split,file,labels", "train,a.jpg,dog", "val,b.jpg,cat", "train,c.jpg,dog"])
    for split in ("train", "val"):
        register_image_list(f"own_{split}", file, split=split)
    assert load("own_train") == [("a.jpg", [1]), ("c.jpg", [1])]
    assert load("own_val") == [("b.jpg", [0])]
    with pytest.raises(ValueError, match=r"all\.csv lists no images of split 'test'"):
        load_image_list(file, "", ["cat", "dog"], "test")


def test_registering_twice_is_allowed_with_equal_arguments_only(tmp_path, restore_catalogs):
    file = write(tmp_path / "own.csv", ROWS)
    for _ in range(2):
        register_image_list("own", file)
    with pytest.raises(ValueError, match="'own' is already registered with other arguments"):
        register_image_list("own", file, classes=["cat", "dog", "cow"])


@pytest.mark.parametrize(
    "row, message",
    [
        ("e.jpg,catt", r"own\.csv, line 5: label 'catt' is not in the list of 2 classes; did you mean 'cat'\?"),
        ("e.jpg,zebra", r"line 5: label 'zebra' is not in the list of 2 classes: cat, dog"),
        ("./a.jpg,cat", r"line 5: '\./a\.jpg' is already listed \(.*own\.csv, line 2\)"),
        ("e.jpg,cat,dog", "line 5: 3 fields, the header has 2; quote"),
        (" ,cat", "line 5: no file name"),
    ],
)
def test_invalid_rows_raise(tmp_path, row, message):
    with pytest.raises(ValueError, match=message):
        load_image_list(write(tmp_path / "own.csv", [*ROWS, row]), "", ["cat", "dog"])


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", r"own\.csv is empty"),
        (b"file,labels\n", r"own\.csv lists no images$"),
        (b"image,label\na.jpg,cat\n", r"line 1: the header \['image', 'label'\] has to include"),
        (b"file,labels\n\xe4.jpg,cat\n", r"own\.csv is not UTF-8 text .*save it as UTF-8"),
    ],
)
def test_invalid_files_raise(tmp_path, content, message):
    (tmp_path / "own.csv").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_image_list(str(tmp_path / "own.csv"), "", ["cat"])


@pytest.mark.parametrize(
    "content, message",
    [
        ({"file": "a.jpg"}, r"own\.json is not a list of"),
        (["a.jpg"], r"own\.json, entry 0 is not of the form .*'a\.jpg'"),
        ([{"file": "a.jpg", "labels": "cat;dog"}], "entry 0 is not of the form"),
        ([{"file": "a.jpg", "labels": ["cat"]}, {"labels": []}], "entry 1: no file name"),
        ([{"file": "a.jpg", "labels": ["cow"]}], "entry 0: label 'cow' is not in"),
        (
            [{"file": "a.jpg", "labels": [], "split": 0}],
            r"own\.json, entry 0: the split 0 is not a string, write \"0\"",
        ),
    ],
)
def test_invalid_json_raises(tmp_path, content, message):
    (tmp_path / "own.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        load_image_list(str(tmp_path / "own.json"), "", ["cat"])


def test_missing_file_raises_on_registration(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.csv is missing"):
        register_image_list("own", str(tmp_path / "none.csv"))
