import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from functools import partial

import numpy as np
import pytest
from helpers.fake_tagger import FakeEvidence, FakeTagger, png
from helpers.running import ENVIRONMENT

from wsd_distill.data import image
from wsd_distill.data.image import open_photo
from wsd_distill.predicting.run import Options, Summary, predict, predict_to_file
from wsd_distill.predicting.sources import Photo, open_sources

SKIP = Options(batch_size=4, on_error="skip")


def photos(*colors):
    """Photos of one color each; None is a file that is not an image."""
    contents = [b"text" if color is None else png(*color) for color in colors]
    return [Photo(f"{i}.png", partial(bytes, content)) for i, content in enumerate(contents)]


def grey(values):
    return photos(*[None if value is None else (value, 0, 0) for value in values])


def write(tmp_path, source, tagger=None, options=SKIP, settings=None, **others):
    """Records of a run with parts of 4 photos."""
    path, tagger = str(tmp_path / "out.jsonl"), tagger or FakeTagger()
    return list(predict_to_file(tagger, iter(source), path, "jsonl", settings or {}, options, part_size=4, **others))


def lines(tmp_path):
    return [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]


def test_labels_are_above_the_threshold_of_their_class_and_the_best_is_first():
    source = photos((153, 204, 102), (51, 0, 255))
    first, second = predict(FakeTagger(), source, Options())
    assert first == {"file": "0.png", "labels": ["green", "red"], "probabilities": [0.8, 0.6], "error": None}
    assert (second["labels"], second["probabilities"]) == (["blue"], [1.0])
    first, second = predict(FakeTagger(), source, Options(threshold=0.2, with_all=True))
    assert (first["labels"], first["all"]) == (["green", "red", "blue"], [0.6, 0.8, 0.4])
    assert second["labels"] == ["blue", "red"]  # 0.2 itself counts


@pytest.mark.parametrize("workers", [1, 3])
def test_photos_are_batched_in_order_and_broken_ones_leave_a_sentence(workers):
    values = [None if i in (2, 7) else i for i in range(11)]
    tagger = FakeTagger()
    records = list(
        predict(tagger, grey(values), Options(batch_size=4, workers=workers, on_error="skip", with_all=True))
    )
    assert [record["file"] for record in records] == [f"{i}.png" for i in range(11)]
    assert tagger.batches == [3, 3, 3]  # of 4, 4 and 3 photos
    for i, record in enumerate(records):
        if i in (2, 7):
            assert record["error"].startswith(f"{i}.png: not an image")
            assert (record["labels"], record["all"]) == ([], None)
        else:
            assert record["error"] is None and record["all"] == [pytest.approx(i / 255, abs=1e-6), 0, 0]


def test_a_batch_of_broken_photos_and_no_photos():
    tagger = FakeTagger()
    assert [record["labels"] for record in predict(tagger, photos(None, None), SKIP)] == [[], []]
    assert tagger.batches == [] and list(predict(tagger, [], SKIP)) == []


def test_the_first_broken_photo_ends_a_run_that_does_not_skip():
    records = predict(FakeTagger(), grey([0, 1, None, 3]), Options(batch_size=2))
    assert [next(records)["file"], next(records)["file"]] == ["0.png", "1.png"]
    with pytest.raises(ValueError, match="^2.png: not an image"):
        next(records)


def test_photos_are_decoded_while_the_network_runs_and_at_most_two_batches_ahead():
    class Network(FakeTagger):
        def probabilities(self, pixels):
            time.sleep(0.05)
            self.ahead.append(self.num_read - len(self.ahead) * 4)
            return super().probabilities(pixels)

    tagger = Network()
    tagger.ahead, opened = [], []
    source = (opened.append(photo.name) or photo for photo in grey(range(40)))
    seen = []
    for record in predict(tagger, source, Options(batch_size=4, workers=2)):
        seen.append(len(opened) - len(seen))
        assert record["error"] is None
    assert max(seen) <= 12 and max(tagger.ahead[:5]) > 4


def test_an_interrupted_run_leaves_no_thread():
    before = set(threading.enumerate())
    records = predict(FakeTagger(delay=0.01), grey(range(50)), Options(batch_size=2, workers=2))
    next(records)
    assert len(set(threading.enumerate()) - before) == 2
    records.close()
    assert set(threading.enumerate()) <= before


def test_a_file_appears_at_the_end_and_no_parts_stay(tmp_path):
    records = write(tmp_path, grey(range(10)))
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]
    assert lines(tmp_path) == records and [record["file"] for record in records] == [f"{i}.png" for i in range(10)]
    with pytest.raises(FileExistsError, match=r"out.jsonl exists: use --overwrite"):
        write(tmp_path, grey(range(3)))
    assert len(write(tmp_path, grey(range(3)), overwrite=True)) == len(lines(tmp_path)) == 3


def test_a_run_that_failed_goes_on_after_its_last_part(tmp_path):
    source = grey([*range(9), None, 10])
    with pytest.raises(ValueError, match=r"^9.png: "):
        write(tmp_path, source, options=Options(batch_size=4))
    assert not (tmp_path / "out.jsonl").exists()
    parts = tmp_path / "out.jsonl.parts"
    assert sorted(path.name for path in parts.glob("0*")) == ["000000.jsonl", "000001.jsonl"]
    (parts / "000000.jsonl").unlink()
    tagger = FakeTagger()
    records = write(tmp_path, source, tagger)
    assert tagger.num_read == 4 + 3 and records == list(predict(FakeTagger(), source, SKIP)) == lines(tmp_path)


def fail_at_the_end(tmp_path, **options):
    with pytest.raises(ValueError, match="^8.png"):
        write(tmp_path, grey([*range(8), None]), options=Options(), **options)


def test_parts_of_other_settings_are_an_error_that_names_them(tmp_path):
    fail_at_the_end(tmp_path, settings={"model": "a", "--all": False})
    message = r"out.jsonl.parts has results of a run with another --all, model: delete the folder or use --overwrite"
    with pytest.raises(ValueError, match=message):
        write(tmp_path, grey(range(9)), settings={"model": "b", "--all": True})
    tagger = FakeTagger()
    write(tmp_path, grey(range(9)), tagger, settings={"model": "b", "--all": True}, overwrite=True)
    assert tagger.num_read == 9


def test_parts_of_other_photos_are_an_error(tmp_path):
    fail_at_the_end(tmp_path)
    source = grey(range(9))
    for changed, message in (
        ([*source[:2], Photo("new.png", source[0].load), *source[2:]], r"\('2.png' then, 'new.png' now\)"),
        (source[:3], r"\('3.png' then, no photo now\)"),
        (source[:4], "has results of photos that the sources no longer have: delete the folder or use --overwrite"),
    ):
        with pytest.raises(ValueError, match=message):
            write(tmp_path, changed)
    assert len(write(tmp_path, source)) == 9


def test_a_folder_in_the_place_of_the_output_and_a_second_run_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr("wsd_distill.io.LOCK_TIMEOUT", 0.0)
    first = predict_to_file(FakeTagger(), iter(grey(range(9))), str(tmp_path / "out.jsonl"), "jsonl", {}, SKIP)
    next(first)
    with pytest.raises(RuntimeError, match=r"another process is using .*out.jsonl.parts"):
        write(tmp_path, grey(range(9)))
    first.close()
    with pytest.raises(ValueError, match="is a folder: give --out the path of a file"):
        next(predict_to_file(FakeTagger(), iter([]), str(tmp_path), "jsonl", {}, SKIP))


PROGRAM = """
import sys
from helpers.fake_tagger import FakeTagger
from wsd_distill.predicting.run import Options, predict_to_file
from wsd_distill.predicting.sources import open_sources

source = open_sources([sys.argv[1]])
for record in predict_to_file(FakeTagger(0.01), source, sys.argv[2], "csv", {}, Options(batch_size=2), part_size=8):
    print(record["file"], flush=True)
"""


def test_a_killed_run_loses_at_most_one_part(tmp_path):
    for i in range(60):
        (tmp_path / f"{i:02d}.png").write_bytes(png(i, 0, 0))
    command = [sys.executable, "-c", PROGRAM, str(tmp_path), str(tmp_path / "out" / "a.csv")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **ENVIRONMENT}) as run:
        written = [run.stdout.readline() for _ in range(20)]  # two parts, and some of the third
        run.send_signal(signal.SIGKILL)
    assert len(written) == 20 and not (tmp_path / "out" / "a.csv").exists()
    kept = len(list((tmp_path / "out" / "a.csv.parts").glob("0*.jsonl")))
    assert 3 <= kept < 8
    tagger, source = FakeTagger(), open_sources([str(tmp_path)])
    options = Options(batch_size=2)
    list(predict_to_file(tagger, source, str(tmp_path / "out" / "a.csv"), "csv", {}, options, part_size=8))
    assert tagger.num_read == 60 - 8 * kept
    rows = (tmp_path / "out" / "a.csv").read_text().splitlines()[1:]
    assert [row.split(",")[0] for row in rows] == [str(tmp_path / f"{i:02d}.png") for i in range(60)]
    assert not (tmp_path / "out" / "a.csv.parts").exists()


def test_summary_lists_the_first_errors():
    summary = Summary()
    for i in range(9):
        summary.add({"error": f"{i}.jpg is broken" if i % 8 else None})
    assert str(summary).splitlines() == [
        "9 photos, 7 could not be read",
        *[f"  {i}.jpg is broken" for i in range(1, 6)],
        "  and 2 more: column 'error'",
    ]


@pytest.mark.parametrize("options", [{"threshold": 1.5}, {"threshold": np.nan}, {"batch_size": 0}, {"workers": -1}])
def test_options_are_checked(options):
    with pytest.raises(ValueError, match="--(threshold|batch-size|workers) .*: give "):
        Options(**options)


def box(label, score):
    return {"label": label, "x0": 1.0, "y0": 2.0, "x1": 3.0, "y1": 4.0, "score": score}


def test_boxes_are_those_of_the_labels_in_their_order(tmp_path):
    source = photos((150, 255, 255), (0, 0, 0), None)  # green and blue before red; no label; broken
    records = list(predict(FakeTagger(), source, SKIP, FakeEvidence()))
    assert records[0]["labels"] == ["green", "blue", "red"]
    assert records[0]["boxes"] == [box("blue", 0.75), box("blue", 0.5), box("red", 0.25)]
    assert [record["boxes"] for record in records[1:]] == [[], []]
    assert write(tmp_path, source, evidence=FakeEvidence()) == records == lines(tmp_path)


def test_a_photo_without_evidence_is_a_photo_that_failed():
    source = photos((0, 0, 255), (255, 0, 0))
    options = Options(on_error="skip", with_all=True)
    first, second = predict(FakeTagger(), source, options, FakeEvidence())
    failed = {"labels": [], "probabilities": [], "all": None, "boxes": []}
    assert first == {"file": "0.png", "error": "0.png: too blue", **failed}
    assert (second["boxes"], second["error"]) == ([box("red", 0.25)], None)
    with pytest.raises(ValueError, match=r"^0\.png: too blue\. --on-error skip goes on without it$"):
        list(predict(FakeTagger(), source, Options(), FakeEvidence()))


def test_a_file_is_read_once_for_labels_and_boxes(tmp_path, monkeypatch):
    (tmp_path / "0.png").write_bytes(png(255, 0, 0))
    reads, read_bytes = [], image._read_bytes
    monkeypatch.setattr(image, "_read_bytes", lambda path: reads.append(path) or read_bytes(path))
    (record,) = predict(FakeTagger(), open_sources([str(tmp_path)]), Options(), FakeEvidence())
    assert record["boxes"] == [box("red", 0.25)] and reads == [str(tmp_path / "0.png")]
    in_shard = Photo("a.tar/0.png", lambda: reads.append("shard") or png(255, 0, 0))
    (record,) = predict(FakeTagger(), [in_shard], Options(), FakeEvidence())
    assert record["boxes"] == [box("red", 0.25)] and reads[1:] == ["shard"]


@pytest.mark.parametrize("evidence", [None, FakeEvidence()])
def test_the_error_of_a_file_that_is_no_image_names_it(tmp_path, evidence):
    class Reader(FakeTagger):
        read = staticmethod(lambda image: open_photo(image).pixels())

    (tmp_path / "rows.csv").write_text("file,label")
    shard = Photo("a.tar/0.jpg", partial(bytes, b"text"))
    sources = [*open_sources([str(tmp_path / "rows.csv")]), shard]
    reason = r"cannot be read as an image \(UnidentifiedImageError: it is not an image in a format "
    for record, name in zip(predict(Reader(), sources, SKIP, evidence), (f"{tmp_path}/rows.csv", "a.tar/0.jpg")):
        assert re.match(f"{re.escape(name)} {reason}", record["error"])
