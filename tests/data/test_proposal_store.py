import json
import os
import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from wsd_distill.data.image import ImageStamp
from wsd_distill.data.proposal_store import (
    ProposalStore,
    ProposalStoreWriter,
    StoreMetadata,
    clip_boxes,
    default_store_path,
)
from wsd_distill.data.store_format import COLUMNS, row_checksum


def random_proposals(rng, count):
    boxes = np.sort(rng.random((count, 2, 2), dtype=np.float32) * 500, axis=1).reshape(count, 4)
    return boxes, np.sort(rng.random(count, dtype=np.float32))[::-1]


def write(path, rows, **metadata):
    with ProposalStoreWriter(path, StoreMetadata("pets_train", "edge_boxes", **metadata)) as writer:
        for row in rows:
            writer.write(*row)
    return path


@pytest.mark.parametrize("images, batches", [(0, 0), (1, 1), (4, 1), (5, 2), (8, 2), (11, 3)])
def test_round_trip_in_batches_of_four(tmp_path, images, batches):
    rng = np.random.default_rng(0)
    rows = [(f"{i:03d}", *random_proposals(rng, 3 * i)) for i in range(images)]
    store = ProposalStore(write(tmp_path / "s.arrow", rows, chunk_rows=4))
    with pa.memory_map(str(tmp_path / "s.arrow")) as file:
        assert pa.ipc.open_file(file).num_record_batches == batches
    assert len(store) == images
    assert list(store) == [row[0] for row in rows]
    for (image_id, boxes, scores), (listed_id, listed) in zip(rows, store.items()):
        for got in (store[image_id], listed):
            np.testing.assert_array_equal(got[0], boxes)
            np.testing.assert_array_equal(got[1], scores)
            assert (got[0].dtype, got[1].dtype) == (np.float32, np.float32)
            assert got[0].shape == (3 * int(image_id), 4)
        assert listed_id == image_id


def test_integer_ids_are_found_in_string_order(tmp_path):
    ids = [2, 10, 9, 100, 1, 33, 21]
    rows = [(i, [[0, 0, i, i]], [0.5]) for i in sorted(ids, key=str)]
    store = ProposalStore(write(tmp_path / "s.arrow", rows, chunk_rows=2))
    assert list(store) == ["1", "10", "100", "2", "21", "33", "9"]
    assert [store[i][0][0, 2] for i in ids] == ids
    assert [store[str(i)][0][0, 2] for i in ids] == ids
    assert all(i in store for i in ids)
    assert not any(i in store for i in (0, 3, 11, 99, "", "02", "zz"))


def test_zero_padded_ids_are_not_their_numbers(tmp_path):
    rows = [
        ("000007", [[0, 0, 1, 1]], [0.1]),
        ("000012", [[0, 0, 2, 2]], [0.2]),
        ("7", [[0, 0, 3, 3]], [0.3]),
    ]
    store = ProposalStore(write(tmp_path / "s.arrow", rows))
    assert store["000007"][0][0, 2] == 1
    assert store[7][0][0, 2] == 3
    assert 12 not in store


def test_boxes_are_sorted_by_score(tmp_path):
    boxes = [[1, 1, 2, 2], [3, 3, 4, 4], [5, 5, 6, 6], [7, 7, 8, 8]]
    store = ProposalStore(write(tmp_path / "s.arrow", [("a", boxes, [0.25, 1.0, 0.25, 0.5])]))
    assert store["a"][1].tolist() == [1.0, 0.5, 0.25, 0.25]
    assert store["a"][0].tolist() == [boxes[1], boxes[3], boxes[0], boxes[2]]


def test_returned_arrays_are_writable_copies(tmp_path):
    store = ProposalStore(write(tmp_path / "s.arrow", [("a", [[0, 0, 1, 1]], [0.5])]))
    boxes, scores = store["a"]
    boxes += 1
    scores += 1
    assert store["a"][0].tolist() == [[0, 0, 1, 1]]
    assert store["a"][1].tolist() == [0.5]


def test_metadata_and_pickling(tmp_path):
    path = write(
        tmp_path / "s.arrow",
        [("a", [[0, 0, 1, 1]], [1])],
        parameters={"beta": 0.65, "edge_model": None},
        failures={"a": "truncated"},
    )
    copy = pickle.loads(pickle.dumps(ProposalStore(path, "pets_train")))
    assert copy["a"][0].tolist() == [[0, 0, 1, 1]]
    assert copy.metadata == StoreMetadata(
        dataset_name="pets_train",
        generator="edge_boxes",
        parameters={"beta": 0.65, "edge_model": None},
        failures={"a": "truncated"},
        box_mode="XYXY_ABS",
        chunk_rows=1024,
        format_version=3,
    )


def test_metadata_keeps_its_keys_in_the_file(tmp_path):
    path = write(tmp_path / "s.arrow", [], image_fingerprint="0123")
    with pa.memory_map(str(path)) as file:
        saved = json.loads(pa.ipc.open_file(file).schema.metadata[b"wsd_distill.proposals"])
    assert list(saved) == [
        "dataset_name",
        "generator",
        "parameters",
        "failures",
        "dropped_boxes",
        "pictures",  # image_fingerprint
        "box_mode",
        "chunk_rows",
        "format_version",
    ]
    assert saved["pictures"] == ProposalStore(path).metadata.image_fingerprint == "0123"


def test_pickle_does_not_contain_boxes(tmp_path):
    rng = np.random.default_rng(0)
    store = ProposalStore(write(tmp_path / "s.arrow", [("a", *random_proposals(rng, 10_000))]))
    assert len(pickle.dumps(store)) < 1000


def test_open_store_keeps_no_boxes_in_memory(tmp_path):
    rng = np.random.default_rng(0)
    rows = [(f"{i:04d}", *random_proposals(rng, 500)) for i in range(300)]  # 3 MB
    path = write(tmp_path / "s.arrow", rows, chunk_rows=32)
    del rows
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    store = ProposalStore(path)
    assert sum(len(scores) for _, (_, scores) in store.items()) == 150_000
    assert tracemalloc.get_traced_memory()[0] < 100_000
    tracemalloc.stop()
    assert pa.total_allocated_bytes() == before
    assert str(path) not in Path("/proc/self/maps").read_text()


def test_store_truncated_while_open_raises(tmp_path):
    rng = np.random.default_rng(0)
    path = write(tmp_path / "s.arrow", [(f"{i}", *random_proposals(rng, 50)) for i in range(9)])
    store = ProposalStore(path)
    os.truncate(path, 4000)
    with pytest.raises(ValueError, match=r"s\.arrow was truncated while open"):
        store["8"]


def test_store_closes_its_file(tmp_path):
    store = ProposalStore(write(tmp_path / "s.arrow", []))
    number = store._file
    assert os.readlink(f"/proc/self/fd/{number}") == str(tmp_path / "s.arrow")
    del store
    assert not os.path.exists(f"/proc/self/fd/{number}")


TOOLS = (
    r"tools/generate_proposals\.py \(with the --config-file and the dataset keys of '{}'\)"
    r" or tools/convert_proposals\.py"
)


def test_missing_image_raises(tmp_path):
    store = ProposalStore(write(tmp_path / "s.arrow", [("a", [[0, 0, 1, 1]], [1])]))
    with pytest.raises(
        KeyError, match=rf"'b' in .*s\.arrow: create the store again \(--overwrite\) with {TOOLS.format('pets_train')}"
    ):
        store["b"]


def test_store_of_another_dataset_raises(tmp_path):
    path = write(tmp_path / "s.arrow", [])
    names = r"s\.arrow contains proposals for 'pets_train', not for 'pets_val'\."
    with pytest.raises(ValueError, match=f"{names} Create a store with {TOOLS.format('pets_val')}"):
        ProposalStore(path, "pets_val")


@pytest.mark.parametrize("content", [b"", b"not arrow at all" * 100])
def test_other_files_raise(tmp_path, content):
    (tmp_path / "s.arrow").write_bytes(content)
    with pytest.raises(ValueError, match=r"s\.arrow is truncated, damaged or not an Arrow file"):
        ProposalStore(tmp_path / "s.arrow")


def test_truncated_store_raises(tmp_path):
    rng = np.random.default_rng(0)
    path = write(tmp_path / "s.arrow", [(f"{i}", *random_proposals(rng, 50)) for i in range(9)], chunk_rows=4)
    whole = path.read_bytes()
    for length in range(0, len(whole), 997):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"s\.arrow is truncated, damaged or not an Arrow file"):
            ProposalStore(path)


def test_missing_file_and_other_arrow_file_raise(tmp_path):
    tools = r"tools/generate_proposals\.py or tools/convert_proposals\.py"
    with pytest.raises(FileNotFoundError, match=rf"gone\.arrow: create it with {tools}"):
        ProposalStore(tmp_path / "gone.arrow")
    with pytest.raises(FileNotFoundError, match=rf"gone\.arrow: create it with {TOOLS.format('pets')}"):
        ProposalStore(tmp_path / "gone.arrow", "pets")
    table = pa.table({"image_id": ["a"]})
    with pa.ipc.new_file(str(tmp_path / "other.arrow"), table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(ValueError, match=r"other\.arrow is an Arrow file but not a proposal store"):
        ProposalStore(tmp_path / "other.arrow")


def test_other_format_version_raises(tmp_path):
    path = write(tmp_path / "s.arrow", [], format_version=2)
    with pytest.raises(ValueError, match=r"s\.arrow has format version 2, expected 3"):
        ProposalStore(path)


BOX = [[0, 0, 1, 1]]


@pytest.mark.parametrize(
    "boxes, scores, message",
    [
        ([[0, 0, 1]], [1], r"'dog': boxes \(1, 3\)"),
        (BOX, [1, 2], r"'dog': boxes \(1, 4\) and scores \(2,\)"),
        (BOX, [[1]], r"'dog': boxes \(1, 4\) and scores \(1, 1\)"),
        ([], [1], r"'dog': boxes \(0,\) and scores \(1,\)"),
        (BOX, [np.nan], "'dog'.*not finite"),
        ([[0, 0, np.inf, 1]], [1], "'dog'.*not finite"),
        ([[2, 0, 1, 1]], [1], "'dog'.*x2 >= x1"),
        ([[0, 2, 1, 1]], [1], "'dog'.*x2 >= x1"),
    ],
)
def test_invalid_boxes_raise_and_leave_no_file(tmp_path, boxes, scores, message):
    with pytest.raises(ValueError, match=message):
        write(tmp_path / "s.arrow", [("cat", BOX, [1]), ("dog", boxes, scores)])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("second", ["b", "a", "10"])
def test_unsorted_or_duplicate_ids_raise(tmp_path, second):
    with pytest.raises(ValueError, match=f"image '{second}' comes after 'b'"):
        write(tmp_path / "s.arrow", [("b", BOX, [1]), (second, BOX, [1])])


def test_failed_writing_keeps_the_previous_store(tmp_path):
    path = write(tmp_path / "s.arrow", [("a", BOX, [1])])
    with pytest.raises(KeyboardInterrupt), ProposalStoreWriter(path, StoreMetadata("d", "g")) as writer:
        writer.write("z", BOX, [1])
        raise KeyboardInterrupt
    assert list(ProposalStore(path)) == ["a"]
    assert list(tmp_path.iterdir()) == [path]


def test_default_path_follows_detectron2s_variable(monkeypatch):
    monkeypatch.delenv("DETECTRON2_DATASETS", raising=False)
    assert default_store_path("pets_train") == "datasets/proposals/pets_train_edge_boxes.arrow"
    monkeypatch.setenv("DETECTRON2_DATASETS", "/big")
    assert default_store_path("pets_train", "detector") == "/big/proposals/pets_train_detector.arrow"


def test_boxes_are_clipped_and_counted():
    boxes = np.array(
        [
            [-5, -5, 10, 10],  # crosses two edges
            [0, 0, 40, 30],  # the whole image
            [35, 25, 45, 35],  # crosses the other two
            [40, 0, 50, 10],  # starts at the right edge
            [-9, 3, -1, 5],  # outside
            [7, 7, 7, 9],  # no width
        ],
        dtype=np.float32,
    )
    scores = np.array([6, 5, 4, 3, 2, 1], dtype=np.float32)
    clipped, kept, *counts = clip_boxes(boxes, scores, height=30, width=40)
    assert clipped.tolist() == [[0, 0, 10, 10], [0, 0, 40, 30], [35, 25, 40, 30]]
    assert kept.tolist() == [6, 5, 4]
    assert counts == [2, 3]
    assert clipped.dtype == np.float32
    assert boxes[0].tolist() == [-5, -5, 10, 10]  # the input is not modified


def test_clipping_no_boxes():
    boxes, scores, *counts = clip_boxes(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), 3, 4)
    assert (boxes.shape, scores.shape, counts) == ((0, 4), (0,), [0, 0])


STAMP = ImageStamp(30, 40, 1234, 2**63 + 5)


def test_rows_keep_the_stamp_of_their_image(tmp_path):
    store = ProposalStore(write(tmp_path / "s.arrow", [("a", BOX, [1], STAMP), ("b", BOX, [1])]))
    assert (store.image_stamp(0), store.image_stamp(1)) == (STAMP, ImageStamp(0, 0, 0, 0))


@pytest.mark.parametrize("value", [1.5, np.inf, np.nan, -1.0, 0.25])
@pytest.mark.parametrize("column", range(5))
def test_changed_number_raises_and_names_the_image(tmp_path, value, column):
    path = write(tmp_path / "s.arrow", [("cat", BOX, [1]), ("dog", [[2, 3, 4, 5]], [0.5])])
    content = bytearray(path.read_bytes())
    start = content.index(np.float32([2, 3, 4, 5, 0.5]).tobytes())
    content[start + 4 * column : start + 4 * column + 4] = np.float32(value).tobytes()
    path.write_bytes(content)
    store = ProposalStore(path)
    assert store["cat"][0].tolist() == BOX
    with pytest.raises(ValueError, match=r"s\.arrow: the row of image 'dog' is damaged, create the store again"):
        store["dog"]


@pytest.mark.parametrize("scores", [[97], [-0.5], [1.001]])
def test_scores_outside_0_to_1_raise(tmp_path, scores):
    with pytest.raises(ValueError, match=r"image 'dog': scores from .* are not in 0\.\.1, by which T-WDet multiplies"):
        write(tmp_path / "s.arrow", [("dog", BOX, scores)])


def rewrite(path, compression=None, **columns):
    """Write a store again with other columns or compressed."""
    table = pa.ipc.open_file(pa.py_buffer(path.read_bytes())).read_all()
    for name, column in columns.items():
        field = table.schema.field(name).with_type(column.type)
        table = table.set_column(table.schema.get_field_index(name), field, column)
    with pa.ipc.new_file(str(path), table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(table)


def test_columns_of_another_type_raise(tmp_path):
    path = write(tmp_path / "s.arrow", [("dog", BOX, [1])])
    rewrite(path, proposals=pa.array([[[0.0] * 5]], pa.list_(pa.list_(pa.float64(), 5))))
    with pytest.raises(ValueError, match=r"s\.arrow has the columns .*'proposals': 'list<.*double.*expected"):
        ProposalStore(path)


@pytest.mark.parametrize("box", [[3, 0, 1, 1, 1], [0, 0, np.inf, 1, 1], [0, 0, 1, 1, 7]])
def test_invalid_rows_with_a_valid_checksum_raise(tmp_path, box):
    path = write(tmp_path / "s.arrow", [("dog", BOX, [1])])
    checksum = row_checksum("dog", ImageStamp(), np.array([box], np.float32))
    proposals = pa.array([[box]], COLUMNS.field("proposals").type)
    rewrite(path, proposals=proposals, checksum=pa.array([checksum], pa.uint32()))
    with pytest.raises(ValueError, match=r"s\.arrow: image 'dog': (boxes|scores) "):
        ProposalStore(path)["dog"]


def test_compressed_blocks_raise_before_they_are_decompressed(tmp_path):
    path = write(tmp_path / "s.arrow", [("dog", BOX * 2000, [1] * 2000)])
    rewrite(path, compression="lz4")
    with pytest.raises(
        ValueError, match=r"s\.arrow is truncated, damaged .* \(it has a compressed or unexpected block"
    ):
        ProposalStore(path)


def test_damaged_files_are_read_right_or_named(tmp_path):
    """Random bytes, bits and integers are changed, or the end is cut: no crash, and no other value."""
    rng = np.random.default_rng(0)
    rows = [(f"{i}", *random_proposals(rng, 3 * i), STAMP) for i in range(7)]
    path = write(tmp_path / "s.arrow", rows, chunk_rows=3)
    content = path.read_bytes()
    whole = ProposalStore(path)
    expected = {name: [part.tolist() for part in row] for name, row in whole.items()}
    integers = [b"\xff" * 4, b"\0" * 4, b"\xff\xff\xff\x7f", b"\0\0\0\x80"]
    right = 0
    for _ in range(2000):
        damaged, position = bytearray(content), int(rng.integers(len(content)))
        kind = rng.integers(4)
        if kind == 0:
            damaged[position] = rng.integers(256)
        elif kind == 1:
            damaged[position] ^= 1 << rng.integers(8)
        elif kind == 2:
            damaged[position & ~3 : (position & ~3) + 4] = integers[rng.integers(4)]
        else:
            damaged = damaged[:position]
        path.write_bytes(damaged)
        try:
            store = ProposalStore(path)
            found = {name: [part.tolist() for part in row] for name, row in store.items()}
            assert (found, store.metadata) == (expected, whole.metadata)
            assert [store.image_stamp(row) for row in range(len(store))] == [STAMP] * 7
            right += 1
        except ValueError as error:
            assert str(path) in str(error)
    assert 20 < right < 1000


def test_a_folder_or_a_pipe_instead_of_a_store_raises(tmp_path):
    os.mkfifo(tmp_path / "pipe.arrow")
    with pytest.raises(ValueError, match=r"pipe\.arrow is a pipe, socket or device, not a file"):
        ProposalStore(tmp_path / "pipe.arrow")
    with pytest.raises(ValueError, match=r"is a folder, not a file"):
        ProposalStore(tmp_path)
