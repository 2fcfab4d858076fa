import wsd_distill  # noqa: F401  (first: it patches Detectron2 0.6 for a current PyTorch)

# isort: split
import io
import logging
import multiprocessing
import os
import sys
import threading
import time

import numpy as np
import pyarrow as pa
import pytest
from detectron2.structures import BoxMode
from helpers.builders import Proposer
from PIL import Image

from wsd_distill.data.build import DatasetWithProposals
from wsd_distill.data.image import UNKNOWN_IMAGE, ImageFile, image_fingerprint
from wsd_distill.data.proposal_store import ProposalStore, ProposalStoreWriter, StoreMetadata
from wsd_distill.proposals.generate import generate, progress_bar
from wsd_distill.proposals.generators.edge_boxes import EdgeBoxes

SIZE = {"height": 20, "width": 30}


def dataset(count):
    return [{"image_id": i, "file_name": f"{i}.png", **SIZE} for i in range(count)]


def read_image(file_name):
    """Return an image whose pixels have the number of the image."""
    return np.full((20, 30, 3), int(file_name.removesuffix(".png")), np.uint8)


def run(output, count, proposer, name="d", **more):
    more = {"num_workers": 0, "images_per_part": 2, "read_image": read_image, **more}
    return generate(dataset(count), name, proposer, output, **more)


def found(boxes, scores):
    return np.array(boxes, np.float32), np.array(scores, np.float32)


def widths(store):
    return {image_id: boxes[0, 2] - 1 for image_id, (boxes, _) in store.items()}


def test_every_image_gets_its_own_boxes_and_the_parts_are_removed(tmp_path):
    store = run(tmp_path / "s.arrow", 11, Proposer({"sizes": (1, 2)}))
    assert widths(store) == {str(i): i for i in range(11)}
    assert list(store) == ["0", "1", "10", "2", "3", "4", "5", "6", "7", "8", "9"]
    assert (store.metadata.dataset_name, store.metadata.generator) == ("d", "counting")
    assert store.metadata.parameters == {"sizes": [1, 2]}
    assert os.listdir(tmp_path) == ["s.arrow"]


def test_empty_dataset_gives_an_empty_store(tmp_path):
    assert len(run(tmp_path / "s.arrow", 0, Proposer())) == 0


@pytest.mark.parametrize("kill", [KeyboardInterrupt, SystemExit])
def test_killed_run_resumes_after_its_last_finished_part(tmp_path, kill):
    with pytest.raises(kill):
        run(tmp_path / "s.arrow", 7, Proposer(side_effect={5: kill()}))  # parts 01 23 45 6
    assert not (tmp_path / "s.arrow").exists()
    second = Proposer()
    store = run(tmp_path / "s.arrow", 7, second)
    assert second.calls == [4, 5, 6]
    assert widths(store) == {str(i): i for i in range(7)}
    assert os.listdir(tmp_path) == ["s.arrow"]


def test_finished_store_is_reused(tmp_path, caplog):
    run(tmp_path / "s.arrow", 3, Proposer({"k": (1,)}))
    again = Proposer({"k": (1,)})
    with caplog.at_level(logging.INFO):
        store = run(tmp_path / "s.arrow", 3, again)
    assert again.calls == []
    assert widths(store) == {"0": 0, "1": 1, "2": 2}
    assert "s.arrow already exists, with 3 images" in caplog.text
    assert "--overwrite" not in caplog.text


def test_reused_store_logs_its_failures_and_how_to_fix_them(tmp_path, caplog):
    run(tmp_path / "s.arrow", 3, Proposer(side_effect={1: ValueError("truncated")}))
    caplog.clear()
    fixed = Proposer()
    run(tmp_path / "s.arrow", 3, fixed)
    assert fixed.calls == []
    failure = "image 1 has no proposals, T-WDet gets the whole image: 1.png: ValueError: truncated"
    hint = f"{tmp_path}/s.arrow is reused with these failures: once they are fixed, use --overwrite"
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [failure, hint]
    assert widths(run(tmp_path / "s.arrow", 3, fixed, overwrite=True)) == {"0": 0, "1": 1, "2": 2}


@pytest.mark.parametrize(
    "change, message",
    [
        ({"proposer": {"k": 2}}, "k is 1, expected 2"),
        ({"proposer": {"k": 1, "new": 3}}, "new is None, expected 3"),
        ({"name": "other"}, "dataset_name is d, expected other"),
        ({"count": 6}, "image ids"),
    ],
)
def test_other_settings_raise_for_store_and_parts(tmp_path, change, message):
    def other(output, **more):
        proposer = Proposer(change.get("proposer", {"k": 1}))
        return run(output, change.get("count", 7), proposer, change.get("name", "d"), **more)

    run(tmp_path / "whole.arrow", 7, Proposer({"k": 1}))
    with pytest.raises(FileExistsError, match=rf"whole\.arrow has other settings \(.*{message}.*--overwrite, or set"):
        other(tmp_path / "whole.arrow")
    assert len(other(tmp_path / "whole.arrow", overwrite=True)) == change.get("count", 7)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut.arrow", 7, Proposer({"k": 1}, {5: KeyboardInterrupt()}))
    with pytest.raises(FileExistsError, match=rf"cut\.arrow\.parts .*{message}.*delete that folder or .*--overwrite"):
        other(tmp_path / "cut.arrow")
    assert len(other(tmp_path / "cut.arrow", overwrite=True)) == change.get("count", 7)
    assert sorted(os.listdir(tmp_path)) == ["cut.arrow", "whole.arrow"]


def test_other_images_with_the_same_ids_raise_for_store_and_parts(tmp_path):
    def write_images(folder, width):
        (tmp_path / folder).mkdir()
        for i in range(5):
            Image.new("RGB", (width, 20)).save(tmp_path / folder / f"{i}.bmp")
        return [{"image_id": i, "file_name": str(tmp_path / folder / f"{i}.bmp")} for i in range(5)]

    def make(dicts, output, trouble=None):
        proposer = Proposer(side_effect=trouble)
        options = {"num_workers": 0, "images_per_part": 2, "read_image": lambda file: read_image(file[-5:-4])}
        generate(dicts, "d", proposer, tmp_path / output, **options)
        return proposer.calls

    first, moved, others = write_images("first", 30), write_images("moved", 30), write_images("others", 31)
    make(first, "s.arrow")
    assert make(moved, "s.arrow") == []
    with pytest.raises(FileExistsError, match=r"s\.arrow has other settings \(other images, .*\): replace it with --"):
        make(others, "s.arrow")
    with pytest.raises(KeyboardInterrupt):
        make(first, "cut.arrow", {3: KeyboardInterrupt()})
    with pytest.raises(FileExistsError, match=r"cut\.arrow\.parts has .* \(other images, .*\): delete that folder"):
        make(others, "cut.arrow")
    assert make(moved, "cut.arrow") == [2, 3, 4]


def test_store_without_image_fingerprint_can_be_read_but_not_reused(tmp_path):
    metadata = StoreMetadata("d", "counting", {})
    with ProposalStoreWriter(tmp_path / "s.arrow", metadata) as writer:
        for i in range(3):
            writer.write(i, np.zeros((0, 4)), np.zeros(0))
    with pytest.raises(FileExistsError, match=r"created without a record.*with --overwrite"):
        run(tmp_path / "s.arrow", 3, Proposer())
    assert len(DatasetWithProposals(dataset(3), ProposalStore(tmp_path / "s.arrow", "d"))[2]["proposal_boxes"]) == 0


def test_only_some_file_sizes_are_read(tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(os.path, "getsize", lambda file: read.append(file) or 7)
    for count, expected in ((0, 0), (1, 1), (100, 100), (101, 51), (120_000, 100)):
        read.clear()
        image_fingerprint([f"{i}.jpg" for i in range(count)])
        assert len(set(read)) == len(read) == expected


def test_scores_outside_0_to_1_stop_the_run_and_name_the_image(tmp_path):
    proposer = Proposer(side_effect={2: found([[0, 0, 5, 5], [1, 1, 2, 2]], [97, 3])})
    message = r"2\.png: counting: scores from 3 to 97 are not in 0\.\.1, by which T-WDet multiplies: scale them"
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "s.arrow", 5, proposer)
    assert not (tmp_path / "s.arrow").exists()


def test_three_processes_that_create_the_same_store_end_well(tmp_path):
    """The first works, the others wait for it and use its store; nothing is left."""

    def read_slowly(name):
        with open(tmp_path / "calls.txt", "a") as file:
            file.write(name[0])
        time.sleep(0.05)
        return read_image(name)

    def make():
        run(tmp_path / "s.arrow", 7, Proposer(), read_image=read_slowly)

    processes = [multiprocessing.get_context("fork").Process(target=make) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert widths(ProposalStore(tmp_path / "s.arrow")) == {str(i): i for i in range(7)}
    assert (tmp_path / "calls.txt").read_text() == "0123456"
    assert sorted(os.listdir(tmp_path)) == ["calls.txt", "s.arrow"]


def test_processes_that_wait_take_over_and_skip_a_finished_store(tmp_path, caplog, no_lock_timeout):
    """A lock file that was removed meanwhile is not a lock, and --overwrite does not repeat what another run did."""
    run(tmp_path / "s.arrow", 3, Proposer())
    waiting, others = threading.Event(), []

    class Slow(Proposer):
        def __call__(self, image):
            if not others:
                others.append(threading.Thread(target=lambda: stores.append(run(output, 3, late, overwrite=True))))
                others[0].start()
                assert waiting.wait(timeout=10)
            return super().__call__(image)

    class Handler(logging.Handler):
        def emit(self, record):
            if "waiting for it" in record.getMessage():
                waiting.set()

    output, late, stores, handler = tmp_path / "s.arrow", Proposer(), [], Handler()
    logging.getLogger("wsd_distill").addHandler(handler)
    first = Slow()
    stores.append(run(output, 3, first, overwrite=True))
    others[0].join(timeout=10)
    logging.getLogger("wsd_distill").removeHandler(handler)
    assert (first.calls, late.calls) == ([0, 1, 2], [])
    assert [widths(store) for store in stores] == [{"0": 0, "1": 1, "2": 2}] * 2
    assert os.listdir(tmp_path) == ["s.arrow"]


def test_full_disk_names_the_file_and_keeps_the_finished_parts(tmp_path, monkeypatch):
    def full(path, schema):
        return new_file("/dev/full" if "000002" in path else path, schema)

    new_file = pa.ipc.new_file
    with monkeypatch.context() as patch:
        patch.setattr(pa.ipc, "new_file", full)
        with pytest.raises(OSError, match=r"parts/000002\.arrow cannot be written \(No space left on device\): free"):
            run(tmp_path / "s.arrow", 7, Proposer())
    assert sorted(path.name for path in (tmp_path / "s.arrow.parts").glob("*arrow*")) == [
        "000000.arrow",
        "000001.arrow",
    ]
    again = Proposer()
    assert len(run(tmp_path / "s.arrow", 7, again)) == 7
    assert again.calls == [4, 5, 6]


def test_a_folder_instead_of_a_store_raises(tmp_path):
    (tmp_path / "s.arrow").mkdir()
    with pytest.raises(ValueError, match=r"s\.arrow is a folder, not a file"):
        run(tmp_path / "s.arrow", 3, Proposer(), overwrite=True)


def test_rows_keep_what_identifies_their_image_file(tmp_path, images):
    store = generate(images, "d", Proposer(side_effect={}), tmp_path / "s.arrow", num_workers=0, images_per_part=2)
    for row, record in enumerate(images):
        expected = UNKNOWN_IMAGE if row == 3 else ImageFile(record["file_name"]).stamp
        assert store.image_stamp(row) == expected
    assert ImageFile(images[0]["file_name"]).stamp[:3] == (60, 80, os.path.getsize(images[0]["file_name"]))


def test_bad_images_get_no_box_and_are_logged_also_after_a_restart(tmp_path, caplog):
    trouble = {1: ValueError("truncated"), 5: KeyboardInterrupt()}
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "s.arrow", 7, Proposer(side_effect=trouble))
    with caplog.at_level(logging.INFO):
        store = run(tmp_path / "s.arrow", 7, Proposer())
    assert [values.shape for values in store[1]] == [(0, 4), (0,)]
    assert store.metadata.failures == {"1": "1.png: ValueError: truncated"}
    assert "image 1 has no proposals, T-WDet gets the whole image: 1.png: ValueError: truncated" in caplog.text
    assert [store[i][0][0, 2] for i in (0, 2, 3, 4, 5, 6)] == [1, 3, 4, 5, 6, 7]


def test_image_of_another_size_than_its_dataset_dict_is_a_failure(tmp_path):
    def read_rotated(file_name):
        return read_image(file_name).transpose(1, 0, 2) if file_name == "2.png" else read_image(file_name)

    store = run(tmp_path / "s.arrow", 3, Proposer(), read_image=read_rotated)
    assert "the image is 20 x 30, its dataset dict has 30 x 20" in store.metadata.failures["2"]


def test_dataset_dicts_without_a_size(tmp_path):
    dicts = [{"image_id": i, "file_name": f"{i}.png"} for i in range(3)]
    proposer = Proposer(side_effect={1: ValueError("truncated")})
    store = generate(dicts, "d", proposer, tmp_path / "s.arrow", num_workers=0, read_image=read_image)
    assert [store[i][0].tolist() for i in range(3)] == [[[0, 0, 1, 1]], [], [[0, 0, 3, 1]]]
    assert store.metadata.failures == {"1": "1.png: ValueError: truncated"}


def test_failure_of_every_image_raises_and_leaves_nothing(tmp_path):
    trouble = {i: ValueError("no model") for i in range(3)}
    with pytest.raises(RuntimeError, match=r"every image failed, the first with 0\.png: ValueError: no model"):
        run(tmp_path / "s.arrow", 3, Proposer(side_effect=trouble))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "dicts, message",
    [
        ([{"image_id": 7, "file_name": "7.png", "width": 3}], r"image 7: its .* lacks \['height'\]"),
        ([{"image_id": 7}], r"image 7: its .* lacks \['file_name'\]"),
        ([{"file_name": "7.png", **SIZE}], r"image 7\.png: its dataset dict lacks \['image_id'\]"),
        ([*dataset(2), {"image_id": "1", "file_name": "b.png", **SIZE}], "d: image '1' is listed twice"),
    ],
)
def test_invalid_dataset_dicts_raise(tmp_path, dicts, message):
    with pytest.raises(ValueError, match=message):
        generate(dicts, "d", Proposer(), tmp_path / "s.arrow", num_workers=0)


def test_values_that_are_not_finite_are_a_failure(tmp_path):
    nan_score = found([[0, 0, 5, 5], [1, 1, 2, 2]], [np.nan, 0.1])
    infinite_box = found([[0, 0, np.inf, 5]], [0.2])
    store = run(tmp_path / "s.arrow", 3, Proposer(side_effect={0: nan_score, 2: infinite_box}))
    message = "ValueError: counting: {} are not finite"
    failures = {"0": f"0.png: {message.format('scores')}", "2": f"2.png: {message.format('boxes')}"}
    assert store.metadata.failures == failures
    assert [len(store[i][0]) for i in range(3)] == [0, 1, 0]


def test_boxes_are_clipped_and_those_without_area_dropped_and_counted(tmp_path, caplog):
    """Boxes that cross the edges, are outside, have no width, or are upside down."""
    boxes = [[-5, -5, 10, 99], [30, 0, 40, 5], [3, 3, 3, 9], [8, 9, 10, 7]]
    trouble = {0: found(boxes, [0.4, 0.3, 0.2, 0.1]), 4: found([[-9, 0, -2, 5]], [0.7])}
    with caplog.at_level(logging.INFO):
        store = run(tmp_path / "s.arrow", 5, Proposer(side_effect=trouble))
    assert (store[0][0].tolist(), store[0][1].tolist()) == ([[0, 0, 10, 20]], [np.float32(0.4)])
    assert len(store[4][0]) == 0
    assert (store.metadata.failures, store.metadata.dropped_boxes) == ({}, 4)
    assert "4 boxes without area inside their image were dropped" in caplog.text


def test_proposer_with_in_workers_false_runs_in_this_process(tmp_path):
    proposer = Proposer()
    proposer.in_workers = False
    run(tmp_path / "s.arrow", 5, proposer, num_workers=2)
    assert proposer.calls == [0, 1, 2, 3, 4]


def test_summary_counts_boxes_and_recall(tmp_path, caplog):
    dicts = dataset(5)
    # proposals are 1, 2, 3, 4, 5 wide: IoU 1/4, 1/2, 3/4, 1, 4/5
    for record in dicts:
        box = {"bbox": [0, 0, 4, 1], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0}
        record["annotations"] = [box]
    # the sixth image: its object is the 501st box
    many = found([[10, 10, 11, 11]] * 500 + [[0, 0, 4, 1]], np.arange(501, 0, -1) / 501)
    dicts += [{**dicts[0], "image_id": 5, "file_name": "5.png"}]
    with caplog.at_level(logging.INFO):
        generate(
            dicts, "d", Proposer(side_effect={5: many}), tmp_path / "s.arrow", num_workers=0, read_image=read_image
        )
    assert "boxes per image: min 1, mean 84.3, max 501" in caplog.text
    assert "recall at IoU 0.5: 0.667 with 100 boxes, 0.667 with 500" in caplog.text
    assert "recall at IoU 0.7: 0.500 with 100 boxes, 0.500 with 500" in caplog.text
    assert "6 images, 6 of them in this run, " in caplog.text


def test_objects_of_a_failed_image_count_as_missed(tmp_path, caplog):
    dicts = dataset(2)
    dicts[0]["annotations"] = [{"bbox": [0, 0, 1, 1], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0}]
    dicts[1]["annotations"] = [{"bbox": [0, 0, 30, 20], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0}]
    proposer = Proposer(side_effect={1: ValueError("truncated")})
    with caplog.at_level(logging.INFO):
        generate(dicts, "d", proposer, tmp_path / "s.arrow", num_workers=0, read_image=read_image)
    assert "boxes per image: min 0, mean 0.5, max 1" in caplog.text
    assert "recall at IoU 0.7: 0.500 with 100 boxes, 0.500 with 500" in caplog.text


@pytest.fixture
def images(tmp_path):
    """Dataset dicts of six PNG files with noise in blocks, the fourth truncated."""
    rng, dicts = np.random.default_rng(0), []
    for number in range(6):
        path = tmp_path / f"{number}.png"
        pixels = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8).repeat(10, 0).repeat(10, 1)
        Image.fromarray(pixels).save(path)
        dicts.append({"image_id": number, "file_name": str(path), "height": 60, "width": 80})
    whole = (tmp_path / "3.png").read_bytes()
    (tmp_path / "3.png").write_bytes(whole[: len(whole) // 2])
    return dicts


def test_two_worker_processes_give_the_same_store(tmp_path, images):
    proposer = EdgeBoxes(max_boxes=20)
    stores = [
        generate(images, "d", proposer, tmp_path / f"{n}.arrow", num_workers=n, images_per_part=2) for n in (0, 2)
    ]
    assert list(stores[0]) == list(stores[1]) == ["0", "1", "2", "3", "4", "5"]
    assert list(stores[1].metadata.failures) == ["3"]
    assert len(stores[1][3][0]) == 0
    for image_id in stores[0]:
        for one, two in zip(stores[0][image_id], stores[1][image_id]):
            np.testing.assert_array_equal(one, two)
    assert multiprocessing.active_children() == []


def test_progress_in_log_lines_at_intervals(monkeypatch, caplog):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with caplog.at_level(logging.INFO), progress_bar(10, 2, seconds=0) as bar:
        bar.update(3)
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0].startswith("proposals: 2 of 10 images, ")
    assert lines[1].startswith("proposals: 5 of 10 images, ")
    assert "images/s" in lines[1] and lines[1].endswith(" left")
    assert sys.stderr.getvalue() == ""  # nothing is redrawn

    now = [0.0]
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    caplog.clear()
    with caplog.at_level(logging.INFO), progress_bar(1000, 0, seconds=60) as bar:
        for _ in range(999):  # one image a second
            now[0] += 1
            bar.update(1)
    counts = [int(record.getMessage().split()[1]) for record in caplog.records]
    assert counts == [*range(0, 999, 60), 999]  # and at the end


def test_progress_bar_on_a_terminal(monkeypatch, caplog):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    with caplog.at_level(logging.INFO), progress_bar(10, 0) as bar:
        bar.update(10)
    assert "10/10" in terminal.getvalue()
    assert caplog.records == []
