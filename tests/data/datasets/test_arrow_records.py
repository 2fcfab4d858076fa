"""Lists of images as Arrow files, and the dataset dicts that are made from them."""

import multiprocessing
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from wsd_distill.data.check import split_hash
from wsd_distill.data.class_counts import count_classes, describe_classes, describe_counts, label_matrix
from wsd_distill.data.datasets import list_table
from wsd_distill.data.datasets.arrow_records import select_records
from wsd_distill.data.datasets.image_list import load_image_list, register_image_list

CLASSES = ["cat", "cow", "dog"]


def expected_records(count, folder):
    """Dataset dicts of ``write_list``, by plain loops."""
    found = []
    for i in range(count):
        record = {
            "file_name": f"{folder}/{i}.jpg",
            "image_id": f"{i}.jpg",
            "labels": [k for k in range(3) if i % (k + 2)],
        }
        if i % 5 == 0:
            record["labels"] = [k for k in record["labels"] if k]
            record["ignore_labels"] = [0]
        found.append(record)
    return found


def write_list(path, count, extra=""):
    lines = ["file,labels,split"]
    for i, record in enumerate(expected_records(count, "")):
        names = [CLASSES[k] for k in reversed(record["labels"])] + [
            f"?{CLASSES[k]}" for k in record.get("ignore_labels", [])
        ]
        lines.append(f"{i}.jpg,{';'.join(names)},{'val' if i % 3 == 0 else 'train'}")
    path.write_text("\n".join(lines) + extra)
    return str(path)


@pytest.fixture(params=["memory", "file"])
def own(request, tmp_path, monkeypatch):
    """Function that writes and loads 1000 rows, in parts of 64; kept in memory or in a file."""
    monkeypatch.setattr(list_table, "MIN_BYTES", 0 if request.param == "file" else 1e9)
    monkeypatch.setattr(list_table, "PART_ROWS", 64)
    monkeypatch.setattr("wsd_distill.data.datasets.arrow_records._CHUNK", 50)

    def load(split=None):
        return load_image_list(write_list(tmp_path / "own.csv", 1000), str(tmp_path), CLASSES, split)

    return load


def test_dicts_are_those_of_plain_loops(own, tmp_path):
    records, expected = own(), expected_records(1000, tmp_path)
    assert len(records) == 1000 and list(records) == expected
    assert [records[i] for i in (0, 64, 999, -1)] == [expected[i] for i in (0, 64, 999, -1)]
    assert list(records[10:400:7]) == expected[10:400:7] and list(records[::-300]) == expected[::-300]
    with pytest.raises(IndexError):
        records[1000]
    rows = np.random.default_rng(0).permutation(1000)[:300]
    assert list(select_records(records, rows)) == list(select_records(expected, rows))
    assert list(records[500:][::2].take(np.array([3, 1]))) == [expected[506], expected[502]]
    assert list(own("val")) == expected[::3]


def test_counts_and_hashes_are_those_of_dicts(own, tmp_path):
    for records, expected in (
        (own(), expected_records(1000, tmp_path)),
        (own("val"), expected_records(1000, tmp_path)[::3]),
    ):
        np.testing.assert_array_equal(label_matrix(records, 3, "own"), label_matrix(expected, 3, "own"))
        assert split_hash(records, CLASSES) == split_hash(expected, CLASSES)
        counts = count_classes(records, 3, "own")
        labels = label_matrix(expected, 3, "own")
        assert counts.positives.tolist() == (labels == 1).sum(axis=0).tolist()
        assert counts.ignored.tolist() == (labels == -1).sum(axis=0).tolist()
        assert counts.labels.tolist() == [sum(len(x["labels"]) == n for x in expected) for n in range(4)]
        assert describe_counts(counts, CLASSES) == describe_classes(labels, CLASSES)


def _read(records, queue):
    queue.put([records[i] for i in (5, 600)])


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_read_the_same_file(own, tmp_path, method):
    records, context = own(), multiprocessing.get_context(method)
    queue = context.Queue()
    worker = context.Process(target=_read, args=(records, queue))
    worker.start()
    assert queue.get() == [expected_records(1000, tmp_path)[i] for i in (5, 600)]
    worker.join()


def test_a_large_list_is_written_once_and_again_when_it_changes(tmp_path, monkeypatch):
    monkeypatch.setattr(list_table, "MIN_BYTES", 0)
    file = write_list(tmp_path / "own.csv", 20)
    records = load_image_list(file, str(tmp_path), CLASSES)
    (path,) = (tmp_path / ".wsd_lists").glob("*.arrow")
    assert len(pickle.dumps(records)) < 2000
    before = path.stat().st_mtime_ns
    assert list(load_image_list(file, str(tmp_path), CLASSES)) == list(records) and path.stat().st_mtime_ns == before
    pickled = pickle.dumps(records)
    write_list(tmp_path / "own.csv", 21)
    assert len(load_image_list(file, str(tmp_path), CLASSES)) == 21
    assert len(records) == 20 and records[19]["image_id"] == "19.jpg"  # of the old file, which is still mapped
    with pytest.raises(ValueError, match="the list of images has changed since this process was started"):
        pickle.loads(pickled)
    assert len(load_image_list(file, str(tmp_path), CLASSES, separator=";")) == 21
    assert [p.name for p in path.parent.iterdir() if p.suffix != ".lock"] == [path.name]
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"\.arrow is damaged .*: delete it"):
        load_image_list(file, str(tmp_path), CLASSES)


def test_the_folder_of_large_lists(tmp_path, monkeypatch):
    monkeypatch.setattr(list_table, "MIN_BYTES", 0)
    file = write_list(tmp_path / "own.csv", 20)
    (tmp_path / ".wsd_lists").write_text("a file in its place")
    with pytest.raises(OSError, match=r"\.wsd_lists cannot be written .* set the environment variable WSD_LISTS"):
        load_image_list(file, str(tmp_path), CLASSES)
    monkeypatch.setenv("WSD_LISTS", str(tmp_path / "elsewhere"))
    assert len(load_image_list(file, str(tmp_path), CLASSES)) == 20
    assert len(list((tmp_path / "elsewhere").glob("own.*.arrow"))) == 1


def test_an_image_twice_is_an_error_of_its_split_alone(tmp_path):
    file = write_list(tmp_path / "own.csv", 6, "\n0.jpg,dog,train\n./1.jpg,dog,train\n")
    assert len(load_image_list(file, "", CLASSES, "val")) == 2
    with pytest.raises(ValueError, match=r"line 9: '\./1\.jpg' is already listed \(.*line 3\)"):
        load_image_list(file, "", CLASSES, "train")
    with pytest.raises(ValueError, match=r"line 8: '0\.jpg' is already listed \(.*line 2\)"):
        load_image_list(file, "", CLASSES)


def test_the_row_of_a_wrong_name_or_label_in_a_late_part(tmp_path, monkeypatch):
    monkeypatch.setattr("wsd_distill.data.datasets.tabular._PART_BYTES", 1000)
    file = write_list(tmp_path / "own.csv", 500, "\n../500.jpg,dog,test\n/there/501.jpg,dog,test2\n502.jpg,bee,train\n")
    for split, message in (
        ("test", r"line 502: '\.\./500\.jpg' is outside"),
        ("test2", r"line 503: '/there/501\.jpg' is outside"),
        ("train", "line 504: label 'bee' is not in the list"),
    ):
        with pytest.raises(ValueError, match=message):
            load_image_list(file, str(tmp_path), CLASSES, split)
    assert len(load_image_list(file, str(tmp_path), CLASSES, "val")) == 167


def test_parquet_and_one_hot_columns(tmp_path, restore_catalogs):
    pq.write_table(pa.table({"file": ["a.jpg", "b.jpg"], "labels": [["dog", "?cat"], []]}), tmp_path / "own.parquet")
    first, second = load_image_list(str(tmp_path / "own.parquet"), "photos", ["cat", "dog"])
    assert first == {"file_name": "photos/a.jpg", "image_id": "a.jpg", "labels": [1], "ignore_labels": [0]}
    assert second == {"file_name": "photos/b.jpg", "image_id": "b.jpg", "labels": []}
    (tmp_path / "one_hot.csv").write_text("file,dog,cat\na.jpg,1,0\nb.jpg,-1,1\n")
    register_image_list("one_hot", str(tmp_path / "one_hot.csv"))
    records = list(load_image_list(str(tmp_path / "one_hot.csv"), "", ["dog", "cat"]))
    assert [(x["labels"], x.get("ignore_labels")) for x in records] == [([0], None), ([1], [0])]
