import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from wsd_distill.tags import read_tags


def write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


def rows(table):
    """File, positive and unknown names of each row."""
    names = table.classes
    return [
        (row["file"], [names[k] for k in row["positive"]], [names[k] for k in row["unknown"]])
        for row in table.table.to_pylist()
    ]


EXPECTED = [("a.jpg", ["cat", "dog"], []), ("sub/b.jpg", ["dog"], ["cat"]), ("c.jpg", [], [])]


@pytest.mark.parametrize("mark, cells", [(";", ""), (",", '"'), ("|", "")])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_csv_with_each_separator(tmp_path, mark, cells, newline, encoding):
    lines = ["file,labels", f"a.jpg,{cells}dog {mark} cat{cells}", f"./sub//b.jpg,{cells}?cat{mark}dog{mark}{cells}"]
    table = read_tags(write(tmp_path / "t.csv", newline.join([*lines, "c.jpg,", ""]), encoding))
    assert table.classes == ["cat", "dog"]
    assert rows(table) == EXPECTED
    assert table.notes == [f"{tmp_path}/t.csv: labels are separated by {mark!r} (detected)."]
    assert table.label_matrix().tolist() == [[1, 1], [-1, 1], [0, 0]]
    assert not table.has_split


@pytest.mark.parametrize(
    "text",
    [
        "file,labels,unknown\na.jpg,dog;cat,\nsub/b.jpg,dog,cat\nc.jpg,,\n",
        "labels,file\n\"['dog', 'cat']\",a.jpg\n\"['dog', '?cat']\",sub/b.jpg\n[],c.jpg\n",
        "file;labels\na.jpg;dog,cat\nsub/b.jpg;dog,?cat\nc.jpg;\n",
        "file,cat,dog\na.jpg,1,1\nsub/b.jpg,-1,1\nc.jpg,0,0\n",
        "file_name,cat,dog\na.jpg,1.0,True\nsub/b.jpg,,1\nc.jpg,0.0,false\n",
    ],
    ids=["unknown column", "Python lists", "semicolon columns", "one-hot", "one-hot of pandas"],
)
def test_other_csv(tmp_path, text):
    assert rows(read_tags(write(tmp_path / "t.csv", text))) == EXPECTED


@pytest.mark.parametrize("kind", ["list", "string", "dictionary", "one-hot"])
def test_parquet(tmp_path, kind):
    files = ["a.jpg", "sub/b.jpg", "c.jpg"]
    texts = pa.array(["dog;cat", "dog;?cat", None])
    columns = {
        "list": {"labels": pa.array([["dog", "cat"], ["dog", "?cat"], None], pa.large_list(pa.large_string()))},
        "string": {"labels": texts},
        "dictionary": {"labels": texts.dictionary_encode()},
        "one-hot": {"cat": pa.array([1.0, float("nan"), 0.0]), "dog": pa.array([True, True, False])},
    }[kind]
    pq.write_table(pa.table({"file": files, **columns}), tmp_path / "t.parquet")
    assert rows(read_tags(tmp_path / "t.parquet")) == EXPECTED


@pytest.mark.parametrize("as_text", [False, True])
def test_image_folder_of_hugging_face(tmp_path, as_text):
    lines = [("a.jpg", ["dog", "cat"]), ("sub/b.jpg", ["?cat", "dog"]), ("c.jpg", [])]
    lines = [{"file_name": file, "labels": ";".join(labels) if as_text else labels} for file, labels in lines]
    write(tmp_path / "metadata.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    assert rows(read_tags(tmp_path)) == EXPECTED
    (tmp_path / "metadata.jsonl").unlink()
    write(tmp_path / "metadata.csv", "file_name,labels\na.jpg,dog|cat\nsub/b.jpg,?cat|dog\nc.jpg,\n")
    assert rows(read_tags(tmp_path)) == EXPECTED


def test_json_list(tmp_path):
    entries = [{"file": "a.jpg", "labels": ["dog", "cat"]}, {"file": "sub/b.jpg", "labels": ["dog", "?cat"]}]
    write(tmp_path / "t.json", json.dumps([*entries, {"file": "c.jpg", "labels": []}]))
    assert rows(read_tags(tmp_path / "t.json")) == EXPECTED


def test_coco(tmp_path):
    images = [{"id": i, "file_name": f"{i}.jpg", "height": 9, "width": 9} for i in (1, 2)]
    pets = [{"id": 7, "name": "dog"}, {"id": 3, "name": "zebra"}]
    boxes = [{"image_id": 1, "category_id": k, "bbox": [0, 0, 5, 5]} for k in (7, 3, 7)]
    write(tmp_path / "t.json", json.dumps({"images": images, "annotations": boxes, "categories": pets}))
    table = read_tags(tmp_path / "t.json")
    assert (table.classes, rows(table)) == (["zebra", "dog"], [("1.jpg", ["zebra", "dog"], [])])
    assert table.notes[1] == f"{tmp_path}/t.json: 1 photos without an annotation are left out."


def test_voc(tmp_path):
    (tmp_path / "Annotations").mkdir()
    for stem, filename, objects in (("a", "<filename>a.png</filename>", [("dog", 0), ("cat", 1)]), ("b", "", [])):
        text = "".join(f"<object><name>{n}</name><difficult>{d}</difficult></object>" for n, d in objects)
        write(tmp_path / "Annotations" / f"{stem}.xml", f"<annotation>{filename}{text}</annotation>")
    assert rows(read_tags(tmp_path)) == [("a.png", ["dog"], ["cat"]), ("b.jpg", [], [])]
    write(tmp_path / "Annotations" / "b.xml", "<annotation>")
    with pytest.raises(ValueError, match=r"b\.xml is truncated or not a valid VOC annotation"):
        read_tags(tmp_path)


def test_classes_are_given(tmp_path):
    file = write(tmp_path / "t.csv", "file,cat,dog\na.jpg,1,0\n")
    assert read_tags(file, classes=["dog", "cat"]).table["positive"].to_pylist() == [[1]]
    file = write(tmp_path / "t.csv", 'file,labels\na.jpg,"salt, pepper"\n')
    assert read_tags(file, separator=";", classes=["salt, pepper"]).table["positive"].to_pylist() == [[0]]


def test_splits_of_a_column_and_of_files(tmp_path):
    file = write(tmp_path / "t.csv", "file,labels,split\na.jpg,cat,train\nb.jpg,,validation\nc.jpg,dog,test\n")
    table = read_tags(file)
    assert table.has_split
    assert table.table["split"].to_pylist() == ["train", "val", "test"]
    one = write(tmp_path / "1.csv", "file,labels\na.jpg,cat\n")
    two = write(tmp_path / "2.csv", "file,labels\nb.jpg,\nc.jpg,dog;?cat\n")
    table = read_tags({"train": one, "val": two})
    assert table.table["split"].to_pylist() == ["train", "val", "val"]
    assert rows(table) == [("a.jpg", ["cat"], []), ("b.jpg", [], []), ("c.jpg", ["dog"], ["cat"])]
    write(two, "file,labels\nb.jpg,\na.jpg,dog\n")
    with pytest.raises(ValueError, match=r"2\.csv, line 3: 'a\.jpg' is already listed \(.*1\.csv, line 2\)"):
        read_tags({"train": one, "val": two})


@pytest.mark.parametrize(
    "text, message",
    [
        ("", r"t\.csv is empty: write a row for each photo"),
        ("file,labels\n", r"t\.csv lists no photos"),
        ("name,labels\na.jpg,cat\n", r"t\.csv has no column 'file' or 'file_name' \(its columns: name, labels\)"),
        ("file\na.jpg\n", r"t\.csv has no column 'labels', and no columns that are classes"),
        ("file,labels,labels\na.jpg,cat,cat\n", r"t\.csv: the column 'labels' is there twice"),
        ("file,labels\na.jpg,cat,dog\n", r"t\.csv, line 2: 3 fields, the header has 2; quote fields"),
        ('file,labels\n\n"a\nb.jpg",cat\n,cat\n', r"t\.csv, line 5: no file name"),
        ("file,labels\na.jpg,cat\nb.jpg,\n./a.jpg,dog\n", r"line 4: 'a\.jpg' is already listed \(.*line 2\)"),
        ("file,cat\na.jpg,1\nb.jpg,yes\n", r"line 3: the column 'cat' has 'yes': write 1, 0, or -1"),
        ("file,labels\na.jpg,cat\n../b.jpg,\n", r"line 3: '\.\./b\.jpg' is outside of the folder"),
        ("file,labels\n/etc/b.jpg,cat\n", r"line 2: '/etc/b\.jpg' is outside of the folder"),
        ("file,labels\nhttp://x/b.jpg,cat\n", r"line 2: 'http://x/b\.jpg' is an address: download the photo"),
        ("file,labels\na.jpg,cat;?cat\n", r"line 2: 'cat' is both a label and unknown"),
        ('file,labels\na.jpg,cat;dog\nb.jpg,"cat,dog"\n', r"';' \(.*line 2\) and ',' \(.*line 3\): correct these"),
        ("file,labels\na.jpg,cat\nb.jpg,Cat\n", r"line 3: label 'Cat' differs from 'cat' \(.*line 2\) in case"),
        ("file,labels\na.jpg,cat\nb.jpg,nan\n", r"line 3: label 'nan' is a word for an empty field"),
        ("file,labels\na.jpg,\n", r"line 2: neither this photo nor another has a label"),
        ("file,labels,split\na.jpg,cat,train\nb.jpg,cat,1\n", r"line 3: the split is '1': write train, val or test"),
        ("file,labels\na.jpg,\"['a', b]\"\n", r"line 2: 'b' in a list is not one label in quotes"),
        ("file,cat,CAT\na.jpg,1,1\n", r"t\.csv: column 'CAT': class 'CAT' differs from 'cat'"),
    ],
)
def test_errors_name_the_line(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read_tags(write(tmp_path / "t.csv", text))


def test_errors_of_other_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"t\.csv is missing"):
        read_tags(tmp_path / "t.csv")
    with pytest.raises(ValueError, match=r"t\.txt: photos with tags are in a file of the type \.csv"):
        read_tags(tmp_path / "t.txt")
    with pytest.raises(ValueError, match=r"has no metadata\.csv, .* and no VOC annotations"):
        read_tags(tmp_path)
    with pytest.raises(ValueError, match=r"t\.parquet is damaged or not Parquet"):
        read_tags(write(tmp_path / "t.parquet", "PAR1"))
    with pytest.raises(ValueError, match=r"t\.jsonl is damaged, or its lines are not objects of one form"):
        read_tags(write(tmp_path / "t.jsonl", '{"file": "a.jpg", "labels": 1}\n{"file'))
    with pytest.raises(ValueError, match=r"t\.jsonl: the column 'labels' has the type int64: write it as text"):
        read_tags(write(tmp_path / "t.jsonl", '{"file": "a.jpg", "labels": 1}\n'))
    with pytest.raises(ValueError, match=r"t\.csv is not UTF-8 text"):
        read_tags(write(tmp_path / "t.csv", "file,labels\né.jpg,cat\n", "latin-1"))
    file = write(tmp_path / "t.csv", "file,labels\na.jpg,cat;dgo\n")
    with pytest.raises(ValueError, match=r"line 2: label 'dgo' is not in the list of 2 classes; did you mean 'dog'"):
        read_tags(file, classes=["cat", "dog"])


def test_photos_are_looked_for_in_their_folder(tmp_path):
    (tmp_path / "photos" / "sub").mkdir(parents=True)
    for name in ("a.jpg", "sub/b.jpg"):
        write(tmp_path / "photos" / name, "")
    file = write(tmp_path / "t.csv", f"file,labels\na.jpg,cat\n{tmp_path}/photos/sub/b.jpg,dog\n")
    assert read_tags(file, tmp_path / "photos").files == ["a.jpg", "sub/b.jpg"]
    write(file, "file,labels\na.jpg,cat\nsub/c.jpg,dog\nsub,cat\n")
    message = r"line 3: 'sub/c\.jpg' is not in .*photos, nor are 1 others of 3 photos: correct the names"
    with pytest.raises(FileNotFoundError, match=message):
        read_tags(file, tmp_path / "photos")
