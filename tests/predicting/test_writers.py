import csv
import io
import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from wsd_distill.predicting.writers import find_format, text_writer, write_results

CLASSES = ["cat", "dog"]
RECORDS = [
    {"file": "a.jpg", "labels": ["dog", "cat"], "probabilities": [0.75, 0.5], "error": None, "all": [0.5, 0.75]},
    {"file": "b,\n.jpg", "labels": [], "probabilities": [], "error": "b is broken", "all": None},
]
SHORT = [{key: value for key, value in record.items() if key != "all"} for record in RECORDS]


def test_parquet(tmp_path):
    path = str(tmp_path / "new" / "a.parquet")
    write_results(path, "parquet", iter(RECORDS), CLASSES, with_all=True)
    table = pq.read_table(path)
    assert table.to_pylist() == RECORDS
    assert json.loads(table.schema.metadata[b"classes"]) == CLASSES
    write_results(path, "parquet", iter(SHORT), CLASSES)
    assert pq.read_table(path).to_pylist() == SHORT


def test_parquet_of_several_row_groups(tmp_path, monkeypatch):
    monkeypatch.setattr("wsd_distill.predicting.writers.ROW_GROUP", 2)
    path = str(tmp_path / "a.parquet")
    write_results(path, "parquet", [{**SHORT[0], "file": str(i)} for i in range(5)], CLASSES)
    assert pq.ParquetFile(path).num_row_groups == 3
    assert pq.read_table(path)["file"].to_pylist() == list("01234")


def test_csv(tmp_path):
    path = tmp_path / "a.csv"
    write_results(str(path), "csv", RECORDS, CLASSES, with_all=True)
    with open(path, newline="") as file:
        assert list(csv.reader(file)) == [
            ["file", "labels", "probabilities", "error", "cat", "dog"],
            ["a.jpg", "dog;cat", "0.75;0.5", "", "0.5", "0.75"],
            ["b,\n.jpg", "", "", "b is broken", "", ""],
        ]
    write_results(str(path), "csv", SHORT, CLASSES)
    assert path.read_text().splitlines()[:2] == ["file,labels,probabilities,error", "a.jpg,dog;cat,0.75;0.5,"]


def test_json_lines():
    file = io.StringIO()
    write = text_writer(file, "jsonl", CLASSES, with_all=True)
    for record in RECORDS:
        write(record)
    first, second = map(json.loads, file.getvalue().splitlines())
    assert first == {**RECORDS[0], "all": {"cat": 0.5, "dog": 0.75}}
    assert second == RECORDS[1]


def test_the_format_is_that_of_the_suffix_or_the_option():
    assert [find_format(path, None, CLASSES) for path in ("a.parquet", "a.CSV", "a.jsonl", None)] == [
        "parquet",
        "csv",
        "jsonl",
        "jsonl",
    ]
    assert find_format("a.txt", "csv", CLASSES) == find_format(None, "csv", CLASSES) == "csv"
    for arguments, message in (
        (("a.txt", None, CLASSES), "a.txt: unknown suffix '.txt': use .parquet, .csv, .jsonl, or set --format"),
        ((None, "parquet", CLASSES), "Parquet is not text: name a file with --out"),
        (("a.csv", None, ["a;b"]), "class 'a;b' contains ';', which CSV cannot hold: write .parquet or .jsonl"),
        (("a.csv", None, ["file"], True), "class 'file' is the name of a column, which CSV cannot hold"),
    ):
        with pytest.raises(ValueError, match=message):
            find_format(*arguments)
    assert find_format("a.csv", None, ["file"]) == "csv"


def test_probabilities_of_float32_survive(tmp_path):
    value = float(np.float32(1 / 3))
    path = str(tmp_path / "a.parquet")
    write_results(path, "parquet", [{**SHORT[0], "probabilities": [round(value, 6), 0.5]}], CLASSES)
    assert pq.read_table(path)["probabilities"].to_pylist()[0] == pytest.approx([1 / 3, 0.5], abs=1e-6)


def test_boxes(tmp_path):
    boxes = [{"label": "dog", "x0": 0.5, "y0": 1.0, "x1": 2.0, "y1": 3.0, "score": 0.25}]
    records = [{**record, "boxes": found} for record, found in zip(SHORT, (boxes, []))]
    write_results(str(tmp_path / "a.parquet"), "parquet", iter(records), CLASSES, with_boxes=True)
    assert pq.read_table(tmp_path / "a.parquet").to_pylist() == records
    write_results(str(tmp_path / "a.csv"), "csv", records, CLASSES, with_boxes=True)
    with open(tmp_path / "a.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["file", "labels", "probabilities", "error", "boxes"]
    assert [json.loads(row[4]) for row in rows[1:]] == [boxes, []]
    write_results(str(tmp_path / "a.jsonl"), "jsonl", records, CLASSES, with_boxes=True)
    assert [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()] == records
