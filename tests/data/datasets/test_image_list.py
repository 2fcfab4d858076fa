import json
import logging
import os

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from wsd_distill.data.datasets import register_files, register_image_list
from wsd_distill.data.datasets.image_list import load_image_list
from wsd_distill.data.datasets.label_names import check_listed_labels

ROWS = ["file,labels", "a.jpg,dog;cat", '"b, c.jpg", cat ; cat;', "sub/d.jpg,"]


def write(path, rows, newline="\n", encoding="utf-8"):
    path.write_bytes(newline.join([*rows, ""]).encode(encoding))
    return str(path)


def load(name):
    return [(record["image_id"], record["labels"]) for record in DatasetCatalog.get(name)]


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
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
    register_image_list("own", str(tmp_path / "own.json"), allow_outside=True)
    assert load("own") == [("a.jpg", [0, 1]), ("/elsewhere/b.jpg", [])]
    files = [record["file_name"] for record in DatasetCatalog.get("own")]
    assert files == [str(tmp_path / "a.jpg"), "/elsewhere/b.jpg"]


def test_unknown_labels_of_json(tmp_path, restore_catalogs):
    entries = [{"file": "a.jpg", "labels": ["dog"], "unknown": ["cow", "cat"]}, {"file": "b.jpg", "labels": []}]
    (tmp_path / "own.json").write_text(json.dumps(entries))
    register_image_list("own", str(tmp_path / "own.json"))
    assert MetadataCatalog.get("own").thing_classes == ["cat", "cow", "dog"]
    first, second = DatasetCatalog.get("own")
    assert (first["labels"], first["ignore_labels"]) == ([2], [0, 1]) and "ignore_labels" not in second
    entries[1]["unknown"] = entries[1]["labels"] = ["cat"]
    (tmp_path / "both.json").write_text(json.dumps(entries))
    with pytest.raises(ValueError, match="both.json, entry 1: 'cat' is both a label and unknown"):
        load_image_list(str(tmp_path / "both.json"), str(tmp_path), ["cat", "cow", "dog"])
    entries[1]["unknown"] = "cat"
    (tmp_path / "text.json").write_text(json.dumps(entries))
    with pytest.raises(ValueError, match="entry 1 is not of the form"):
        load_image_list(str(tmp_path / "text.json"), str(tmp_path), ["cat", "cow", "dog"])


def test_classes_from_arguments_a_file_or_another_list(tmp_path, restore_catalogs):
    train = write(tmp_path / "train.csv", ROWS)
    val = write(tmp_path / "val.csv", ["file,labels", "v.jpg,dog"])
    register_image_list("given", val, classes=["dog", "cat"])
    assert load("given") == [("v.jpg", [0])]
    register_image_list("of_a_file", val, classes=write(tmp_path / "classes.txt", ["cow", "", "dog"]))
    assert load("of_a_file") == [("v.jpg", [1])]
    register_image_list("of_the_training_list", val, classes=train)
    assert MetadataCatalog.get("of_the_training_list").thing_classes == ["cat", "dog"]
    with pytest.raises(ValueError, match=r"the classes: entry 1: class 'cat' is listed twice \(entry 0\)"):
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
        (b"file,labels\n", r"own\.csv lists no photos: write a row"),
        (b"image,label\na.jpg,cat\n", r"own\.csv has no column 'file' or 'file_name' \(its columns: image, label\)"),
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
        ([{"file": "a.jpg", "labels": [], "split": [0]}], r"own\.json, entry 0: split=\[0\]: set it to text"),
    ],
)
def test_invalid_json_raises(tmp_path, content, message):
    (tmp_path / "own.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        load_image_list(str(tmp_path / "own.json"), "", ["cat"])


def test_missing_file_raises_on_registration(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.csv is missing"):
        register_image_list("own", str(tmp_path / "none.csv"))


LABELS = {"cat": "line 2", "dog": "line 3", "dining table": "line 4", "dining": "line 5"}


@pytest.mark.parametrize(
    "label, message",
    [
        ("cat,dog", "label 'cat,dog' contains ','"),
        ("cat|cow", r"contains '\|'"),
        ("cat\tdog", r"has the invisible character U\+0009"),
        ("['cat', 'cow']", "like a Python list: write cat;cow"),
        ("['cat']", "like a Python list"),
        ('"cat"', "like a Python list"),
        ("cat dog", "joins the labels cat, dog"),
        ("cat/dog", "joins the labels cat, dog"),
        ("cat_dining", "joins the labels cat, dining"),
        ("NaN", "is a word for an empty field"),
        ("none", "is a word for an empty field"),
        *((word, "is a word for an empty field") for word in ("NA", "#N/A", "undefined", "-", "?", "nil", "-1.#IND")),
        ("cat\uff0cbus", "contains '\uff0c'"),
        ("cat\u3001bus", "contains '\u3001'"),
        ("cat\uff1bbus", "contains '\uff1b'"),
        ("cat and dining", "joins the labels cat, dining"),
        ("cat.dining", "joins the labels cat, dining"),
        ("cat:Dining", "joins the labels cat, dining"),
        ("dining table and cat", "joins the labels dining table, cat"),
        ("\uff43at", r"label '\uff43at' differs from 'cat' \(line 2\)"),
        ("null", "is a word for an empty field"),
        (" ", "is empty"),
        ("Cat", r"label 'Cat' differs from 'cat' \(line 2\) in case, white space"),
        ("diningtable", r"differs from 'dining table' \(line 4\)"),
        ("ca\u200bt", r"has the invisible character U\+200B"),
        ("a\u00a0cat", r"has the invisible character U\+00A0"),
    ],
)
def test_labels_of_a_list_that_look_wrong(label, message):
    with pytest.raises(
        ValueError, match=f"own.csv: 1 of 5 labels look wrong: line 9: .*{message}.* (Remedy|Write the labels)"
    ):
        check_listed_labels({**LABELS, label: "line 9"}, "own.csv", "Remedy")


def test_labels_in_two_unicode_forms():
    with pytest.raises(ValueError, match=r"line 2: label .* differs from .* \(line 1\)"):
        check_listed_labels({"caf\u00e9": "line 1", "cafe\u0301": "line 2"}, "own.csv", "Remedy")


def test_usual_names_are_accepted():
    check_listed_labels({**LABELS, "hot dog": "line 6", "tv/monitor": "line 7", "O'Neil": "line 8"}, "own.csv", "")


def test_python_lists_are_told_what_to_write(tmp_path, restore_catalogs):
    file = write(tmp_path / "own.csv", ["file,labels", "a.jpg,cat", "b.jpg,\"['cat', 'dog']\""])
    with pytest.raises(ValueError, match="like a Python list: write cat;dog. Write the labels") as error:
        register_image_list("own", file)
    assert "dataset.separator" not in str(error.value)
    with pytest.raises(ValueError, match="line 3: label .* it is written like a Python list; write cat;dog$"):
        load_image_list(file, "", ["cat", "dog"])


@pytest.mark.parametrize("labels", ['"cat,dog"', "cat|dog"])
def test_several_labels_in_one_stop_the_registration(tmp_path, restore_catalogs, labels):
    file = write(tmp_path / "own.csv", ["file,labels", "a.jpg,cat", f"b.jpg,{labels}"])
    with pytest.raises(ValueError, match=r"own\.csv: 1 of 2 labels look wrong: line 3: label .* set dataset.separator"):
        register_image_list("own", file)
    with pytest.raises(ValueError, match=r"own\.csv, line 3: label .* it looks like 'cat' and 'dog'; set dataset.sep"):
        load_image_list(file, "", ["cat", "dog"])


def test_named_classes_may_have_commas(tmp_path, restore_catalogs):
    file = write(tmp_path / "own.csv", ["file,labels", 'a.jpg,"tench, Tinca tinca;dining table"'])
    register_image_list("own", file, classes=["tench, Tinca tinca", "dining table", "none"])
    assert load("own") == [("a.jpg", [0, 1])]
    register_image_list("named", file, classes=["tench, Tinca tinca", "dining table", "NA", "?", "x2", "x\u00b2"])
    for classes, message in (
        (["cat", "Cat "], r"entry 1: class 'Cat ' has white space"),
        (["cat", "Cat"], r"entry 1: class 'Cat' differs from 'cat' \(entry 0\)"),
        (["cat", 3], "entry 1: class 3 is not text"),
        ([], "is empty"),
        (5, "dataset.classes=5"),
    ):
        with pytest.raises(ValueError, match=message):
            register_image_list("other", file, classes=classes)


@pytest.mark.parametrize("separator", ["comma", ","])
def test_separator(tmp_path, restore_catalogs, caplog, separator):
    register_image_list("own", write(tmp_path / "own.csv", ["file,labels", 'a.jpg,"cat, dog"']), separator=separator)
    with caplog.at_level(logging.INFO):
        assert load("own") == [("a.jpg", [0, 1])]
    assert "own.csv: labels are separated by ','" in caplog.text
    with pytest.raises(ValueError, match="dataset.separator=x: choose from semicolon, comma"):
        register_image_list("other", str(tmp_path / "own.csv"), separator="x")


def test_a_carriage_return_in_a_field_is_white_space_and_no_line(tmp_path, restore_catalogs):
    (tmp_path / "own.csv").write_bytes(b'file,labels\r\na.jpg,"cat,dog\r"\nb.jpg,"cat;\r"\n')
    with pytest.raises(ValueError, match="line 2: label 'cat,dog' contains ','"):
        register_image_list("own", str(tmp_path / "own.csv"))
    register_image_list("own", str(tmp_path / "own.csv"), classes=["cat", "cat,dog"])
    assert load("own") == [("a.jpg", [1]), ("b.jpg", [0])]


def test_splits_that_are_numbers_are_text(tmp_path, restore_catalogs):
    rows = [f"{name},cat,{split}" for name, split in (("a.jpg", 0), ("b.jpg", 1), ("c.jpg", 2))]
    file = write(tmp_path / "own.csv", ["file,labels,split", *rows])
    files = dict.fromkeys(("train", "val", "test"), file)
    register_files("own", files, split_names={"train": 0, "val": "1", "test": 2})
    assert [load(f"own_{split}")[0][0] for split in files] == ["a.jpg", "b.jpg", "c.jpg"]
    (tmp_path / "own.json").write_text(json.dumps([{"file": "a.jpg", "labels": ["cat"], "split": 0}]))
    assert len(load_image_list(str(tmp_path / "own.json"), "", ["cat"], "0")) == 1


@pytest.mark.parametrize(
    "settings, message",
    [
        (
            {"files": {"train": "{}/own.csv", "val": "{}/gone.csv", "test": "{}/own.csv"}},
            "dataset.files.val=.*gone.csv is m",
        ),
        (
            {"files": {"train": "{}/own.csv", "val": ["a"], "test": "{}/own.csv"}},
            "dataset.files.val=.*: set it to text",
        ),
        ({"image_root": ["a"]}, "dataset.image_root=.*: set it to text"),
        ({"split_names": {"train": 0.5}}, "dataset.split_names.train=0.5: set it to text"),
        ({"classes": {"cat": 1}}, "dataset.classes=.*: set it to a list of names"),
    ],
)
def test_wrong_settings_are_named(tmp_path, restore_catalogs, settings, message):
    write(tmp_path / "own.csv", ["file,labels", "a.jpg,cat"])
    files = settings.pop("files", dict.fromkeys(("train", "val", "test"), "{}/own.csv"))
    files = {split: path.format(tmp_path) if isinstance(path, str) else path for split, path in files.items()}
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        register_files("own", files, **settings)


@pytest.mark.parametrize(
    "name, option, message",
    [
        ("http://host/a.jpg", "allow_remote", "would be read from the network: set dataset.allow_remote=True"),
        ("s3://bucket/a.jpg", "allow_remote", "set dataset.allow_remote=True"),
        ("../a.jpg", "allow_outside", "outside of the image folder .*set dataset.allow_outside=True"),
        ("a/../../b.jpg", "allow_outside", "outside"),
        ("/etc/passwd", "allow_outside", "outside"),
    ],
)
def test_images_elsewhere_are_refused_unless_allowed(tmp_path, name, option, message):
    file = write(tmp_path / "own.csv", ["file,labels", f"{name},cat"])
    with pytest.raises(ValueError, match=f"own.csv, line 2: '{name}' .*{message}"):
        load_image_list(file, str(tmp_path / "photos"), ["cat"])
    ((record),) = load_image_list(file, str(tmp_path / "photos"), ["cat"], **{option: True})
    assert record["file_name"].startswith(name) == ("://" in name or name.startswith("/"))


def test_absolute_paths_in_the_folder_are_allowed(tmp_path):
    file = write(tmp_path / "own.csv", ["file,labels", f"{tmp_path}/photos/a.jpg,cat", "./sub/../b.jpg,cat"])
    records = load_image_list(file, str(tmp_path / "photos"), ["cat"])
    assert [record["file_name"] for record in records] == [f"{tmp_path}/photos/{name}.jpg" for name in "ab"]


@pytest.mark.parametrize(
    "content, message",
    [
        ("[" * 100_000, "nested too deeply"),
        ('[{"file": "a.jpg", "labels": [], "x": %s}]' % ("1" * 5000), r"own\.json is truncated or not JSON: .*digits"),
        ('[{"file": "a.jpg", "file": "b.jpg", "labels": []}]', r"own\.json is .*: an object has the key 'file' twice"),
    ],
)
def test_hostile_json(tmp_path, content, message):
    (tmp_path / "own.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        load_image_list(str(tmp_path / "own.json"), "", ["cat"])


@pytest.mark.parametrize("suffix", ["csv", "json"])
def test_large_text_is_not_read(tmp_path, monkeypatch, suffix):
    monkeypatch.setenv("WSD_MAX_TEXT_GB", "1e-9")
    (tmp_path / f"own.{suffix}").write_text("file,labels")
    with pytest.raises(ValueError, match=rf"own\.{suffix} has .*limit of 1e-09: set .* WSD_MAX_TEXT_GB"):
        load_image_list(str(tmp_path / f"own.{suffix}"), "", ["cat"])


def test_files_of_two_formats_are_named(tmp_path):
    coco = write(tmp_path / "train.json", ['{"images": [], "annotations": [], "categories": []}'])
    listed = write(tmp_path / "val.csv", ["file,labels", "a.jpg,cat"])
    for files, message in (
        (
            (coco, listed, listed),
            r"train=.*train.json is in COCO's format, and dataset.files.val=.*val.csv is not: give",
        ),
        ((listed, listed, coco), r"train=.*val.csv is a list of images, and dataset.files.test=.*json is COCO's: give"),
    ):
        with pytest.raises(ValueError, match=message):
            register_files("mixed", dict(zip(("train", "val", "test"), files)))


def test_folders_and_pipes_are_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(ValueError, match=r"pipe\.csv is a pipe"):
        load_image_list(str(tmp_path / "pipe.csv"), "", ["cat"])
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ValueError, match=r"folder\.csv is a folder, not a file"):
        load_image_list(str(tmp_path / "folder.csv"), "", ["cat"])


def test_a_column_that_is_there_twice(tmp_path):
    with pytest.raises(ValueError, match=r"own\.csv: the column 'labels' is there twice"):
        load_image_list(write(tmp_path / "own.csv", ["file,labels,labels", "a.jpg,cat,dog"]), "", ["cat"])
