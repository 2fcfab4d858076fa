import logging
import os
import re

import numpy as np
import pytest
from helpers.proposal_files import BOXES, RECORDS
from PIL import Image

from wsd_distill.data.image import ImageFile
from wsd_distill.data.proposal_store import ProposalStore, ProposalStoreWriter, StoreMetadata
from wsd_distill.proposals.convert import Converter, read_proposals, write_proposals
from wsd_distill.proposals.formats import coco_results, detectron2_pickle
from wsd_distill.proposals.formats.box_formats import BOX_FORMATS
from wsd_distill.proposals.formats.proposal_file import FORMATS, ProposalFile, guess_format


def source(boxes, **more):
    names = list(boxes)

    def proposals(position):
        found = boxes[names[position]]
        return np.array(found[0], dtype=np.float64).reshape(-1, 4), np.array(found[1], dtype=np.float64)

    return ProposalFile("p.pkl", names, proposals, **more)


def convert(boxes, **more):
    rows = Converter(source(boxes), RECORDS, **more).rows()
    return {str(record["image_id"]): (found.tolist(), scores.tolist()) for record, found, scores in rows}


@pytest.mark.parametrize("suffix", FORMATS)
def test_round_trip_from_a_store_through_each_format(tmp_path, suffix):
    first, other, last = (str(tmp_path / name) for name in ("first.arrow", f"other{suffix}", "last.arrow"))
    write_proposals(first, Converter(source(BOXES), RECORDS), "pets")
    write_proposals(other, Converter(read_proposals(first, "pets"), RECORDS), "pets")
    write_proposals(last, Converter(read_proposals(other, "pets"), RECORDS), "pets")
    store = ProposalStore(last, "pets")
    assert {name: (boxes.tolist(), scores.tolist()) for name, (boxes, scores) in store.items()} == BOXES
    assert store.metadata.generator == "converted"
    parameters = {"file": f"other{suffix}", "scores": "of the file", "top": None, "sigmoid": False}
    box_format = {".mat": "y1x1y2x2", ".json": "xywh", ".pth": "xywh"}.get(suffix, "x1y1x2y2")
    parameters |= {"score_scale": 1.0, "box_format": box_format}
    assert store.metadata.parameters == parameters
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted({"first.arrow", f"other{suffix}", "last.arrow"})


def test_boxes_are_sorted_clipped_dropped_and_counted(caplog):
    caplog.set_level(logging.INFO)
    wild = [[50, 0, 60, 5], [-4, -4, 10, 10], [3, 3, 3, 9], [30, 20, 45, 35]]  # outside, clipped, no width, clipped
    found = convert({**BOXES, "10": (wild, [0.9, 0.2, 0.8, 0.4]), "9": ([], [])}, accept_boxes=True)
    assert found["10"] == ([[30, 20, 40, 30], [0, 0, 10, 10]], pytest.approx([0.4, 0.2]))
    assert found["9"] == ([], [])
    assert "3 images, 5 boxes" in caplog.text
    assert "clipped to the image: 2 boxes; dropped because no area was left: 2" in caplog.text
    assert "1 images have no box" in caplog.text


def test_missing_sizes_are_read_from_the_files(tmp_path):
    orientation = Image.Exif()
    orientation[0x0112] = 6  # rotated: 40 x 30 as stored, 30 x 40 upright
    Image.new("RGB", (40, 30)).save(tmp_path / "a.jpg", exif=orientation)
    records = [{"image_id": name, "file_name": str(tmp_path / "a.jpg")} for name in ("a", "b")]
    converter = Converter(source({"a": ([[0, 0, 30, 40.5]], [1])}), records, missing="whole-image")
    assert [boxes.tolist() for _, boxes, _ in converter.rows()] == [[[0, 0, 30, 40]]] * 2


def test_top_and_sigmoid(caplog):
    logits = {**BOXES, "100": ([[1, 2, 3, 4], [5, 6, 7, 8], [0, 0, 20, 20]], [-np.log(3), 0, np.log(3)])}
    assert convert(logits, sigmoid=True)["100"][1] == pytest.approx([0.75, 0.5, 0.25])
    assert convert(logits, sigmoid=True, top=1)["100"] == ([[0, 0, 20, 20]], [pytest.approx(0.75)])


@pytest.mark.parametrize(
    "scores, message",
    [
        ([-1.5, 0, 1], r"image '100' has the score -1\.5, .* from -1\.5 to 1, are not in 0\.\.1, .*use --sigmoid"),
        ([50, 97, 3], r"image '100' has the score 97, .*: use --score-scale 0\.01 for percents, or --sigmoid"),
        ([0, 255, 3], r"image '100' has the score 255, .*: use --score-scale with a factor of at most 0\.00392"),
    ],
)
def test_scores_outside_0_to_1_raise_with_the_remedy(scores, message):
    with pytest.raises(ValueError, match=message):
        convert({**BOXES, "100": (BOXES["100"][0], scores)})


def test_percents_are_scaled():
    percents = {name: (boxes, [100 * score for score in scores]) for name, (boxes, scores) in BOXES.items()}
    assert convert(percents, score_scale=0.01)["100"][1] == pytest.approx([0.5, 0.5, 0.125])


@pytest.mark.parametrize("value", [0.0, 1.0, -3.0])
@pytest.mark.parametrize("sigmoid", [False, True])
def test_equal_scores_become_ranks_in_the_order_of_the_file(tmp_path, caplog, value, sigmoid):
    """As in the selective-search pickles of some programs, whose scores are all 0."""
    equal = {name: (boxes, [value] * len(boxes)) for name, (boxes, _) in BOXES.items()}
    converter = Converter(source(equal), RECORDS, sigmoid=sigmoid)
    write_proposals(str(tmp_path / "s.arrow"), converter, "pets")
    store = ProposalStore(tmp_path / "s.arrow")
    assert store[100][0].tolist() == BOXES["100"][0]
    assert store[100][1].tolist() == pytest.approx([1, 2 / 3, 1 / 3])
    assert store[9][1].tolist() == [1]
    text = f"1 - rank / number, since all scores of the file are {value:g}"
    assert store.metadata.parameters["scores"] == text
    assert f"p.pkl: all scores are {value:g}; they become 1 - rank / number, in the order of the file" in caplog.text


def test_images_with_equal_scores_are_counted(caplog):
    convert({**BOXES, "10": (BOXES["10"][0], [0.5, 0.5])})
    assert "1 of 2 images have the same score for all of their boxes (the first is '10')" in caplog.text


def test_scores_that_are_equal_within_each_image_become_ranks(tmp_path, caplog):
    constant = {name: (boxes, [0.1 * (i + 1)] * len(boxes)) for i, (name, (boxes, _)) in enumerate(BOXES.items())}
    converter = Converter(source(constant), RECORDS)
    write_proposals(str(tmp_path / "s.arrow"), converter, "pets")
    store = ProposalStore(tmp_path / "s.arrow")
    assert store[100][1].tolist() == pytest.approx([1, 2 / 3, 1 / 3])
    text = "2 of 2 images have the same score for all of their boxes"
    assert store.metadata.parameters["scores"] == f"1 - rank / number, since {text}"
    assert f"p.pkl: {text} (the first is '10'); all scores become 1 - rank / number" in caplog.text


def test_images_whose_scores_are_all_0_get_ranks_and_are_counted(caplog):
    zero = {**BOXES, "100": (BOXES["100"][0], [0, 0, 0]), "9": (BOXES["9"][0], [0])}
    converter = Converter(source(zero), RECORDS)
    found = {str(record["image_id"]): scores.tolist() for record, _, scores in converter.rows()}
    assert found == {"10": BOXES["10"][1], "100": pytest.approx([1, 2 / 3, 1 / 3]), "9": [1]}
    assert converter.scores == "of the file; 1 - rank / number in 2 images, whose scores are all 0"
    assert "p.pkl: all scores of 2 images are 0 (the first is '100'); they become 1 - rank / number" in caplog.text
    assert convert(zero, sigmoid=True)["100"][1] == [0.5] * 3


SQUARES = [[i, 2 * i, i + 4, 2 * i + 6] for i in range(12)]  # x1, y1, x2, y2 in an image of 20 x 40 pixels
TALL = [{"image_id": i, "file_name": f"{i}.jpg", "height": 40, "width": 20} for i in range(3)]


def as_format(boxes, box_format):
    x1, y1, x2, y2 = np.array(boxes, dtype=np.float64).T
    if box_format.endswith("-relative"):
        x1, y1, x2, y2 = x1 / 20, y1 / 40, x2 / 20, y2 / 40
    return np.column_stack(
        {
            "x1y1x2y2": [x1, y1, x2, y2],
            "y1x1y2x2": [y1, x1, y2, x2],
            "xywh": [x1, y1, x2 - x1, y2 - y1],
            "cxcywh": [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1],
        }[box_format.removesuffix("-relative")]
    )


@pytest.mark.parametrize("box_format", BOX_FORMATS)
def test_boxes_of_another_format_raise_and_the_named_option_reads_them(box_format):
    boxes = {str(i): (as_format(SQUARES, box_format), np.linspace(0.9, 0.1, len(SQUARES))) for i in range(3)}
    declared = {"x1y1x2y2": "xywh", "xywh": "x1y1x2y2"}.get(box_format, "x1y1x2y2")
    with pytest.raises(ValueError) as caught:
        Converter(source(boxes, box_format=declared), TALL)
    text = r"use --box-format (\S+)( \(0\.0% cut or without area\); (.*) would fit too)?"
    options = re.search(text, str(caught.value))
    assert box_format in (options[1], *(options[3] or "").split(" and "))
    cause = "all coordinates are within 0..1" if box_format.endswith("relative") else f"read as {declared}, "
    assert cause in str(caught.value)
    rows = Converter(source(boxes, box_format=box_format), TALL).rows()
    assert all(np.allclose(found, SQUARES, atol=1e-5) for _, found, _ in rows)


def test_up_to_5_percent_of_the_boxes_may_be_cut():
    inside, outside = [[1, 1, 9, 9]] * 19, [[1, 1, 25, 9]]
    scores = np.linspace(1, 0, 20)
    one = {str(i): (inside + outside, scores) for i in range(3)}
    assert len(list(Converter(source(one), TALL).rows())) == 3
    message = r"p\.pkl: read as x1y1x2y2, 6\.7% of 60 boxes are cut at the edge of their image, 0\.0% have no area"
    more = {**one, "2": (inside[1:] + outside * 2, scores)}
    with pytest.raises(ValueError, match=message):
        Converter(source(more), TALL)
    assert len(list(Converter(source(more), TALL, accept_boxes=True).rows())) == 3


def test_images_replaced_since_a_store_was_made_raise(tmp_path):
    """Another conversion of the old boxes must not make them those of the new image."""
    records = [{"image_id": "a", "file_name": str(tmp_path / "a.png")}]
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    first, boxes = str(tmp_path / "s.arrow"), {"a": ([[0, 0, 20, 20], [1, 1, 9, 9]], [1, 0.5])}
    write_proposals(first, Converter(source(boxes), records), "pets")
    assert ProposalStore(first).image_stamp(0) == ImageFile(records[0]["file_name"]).stamp
    write_proposals(str(tmp_path / "t.pkl"), Converter(read_proposals(first, "pets"), records), "pets")
    Image.new("RGB", (20, 30)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a\.png is not the image .* \(.*width 40 before, 20 now"):
        write_proposals(str(tmp_path / "t.arrow"), Converter(read_proposals(first, "pets"), records), "pets")
    with pytest.raises(ValueError, match=r"a\.png is 20 x 30, its dataset dict has 40 x 30"):
        write_proposals(first, Converter(source(boxes), [{**records[0], "height": 30, "width": 40}]), "pets")


def test_missing_images_follow_the_policy_and_extra_ones_are_counted(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    some = {"100": BOXES["100"], "7": BOXES["9"], "8": BOXES["9"]}
    with pytest.raises(ValueError, match=r"p\.pkl has no proposals for 2 images \('10', '9'\) of the dataset's 3"):
        Converter(source(some), RECORDS)
    assert convert(some, missing="empty")["10"] == ([], [])
    assert "they get no box" in caplog.text
    assert "2 images of p.pkl are not in the dataset and left out" in caplog.text
    write_proposals(str(tmp_path / "s.arrow"), Converter(source(some), RECORDS, missing="whole-image"), "pets")
    store = ProposalStore(tmp_path / "s.arrow")
    assert [part.tolist() for part in store[10]] == [[[0, 0, 40, 30]], [1]]
    assert store.metadata.failures == {"10": "not in p.pkl", "9": "not in p.pkl"}


@pytest.mark.parametrize(
    "boxes, scores, message",
    [
        ([[0, 0, 1, 1]], [np.nan], r"p\.pkl: image '9': scores are not finite"),
        ([[0, 0, np.inf, 1]], [1], r"p\.pkl: image '9': boxes are not finite"),
        ([[2, 0, 1, 1]], [1], r"p\.pkl: .*, 1 end before they start \(the first in image '9'\): use --box-format xywh"),
    ],
)
def test_invalid_boxes_raise_and_leave_no_file(tmp_path, boxes, scores, message):
    for suffix in FORMATS:
        with pytest.raises(ValueError, match=message):
            write_proposals(
                str(tmp_path / f"p{suffix}"), Converter(source({**BOXES, "9": (boxes, scores)}), RECORDS), "pets"
            )
    assert list(tmp_path.iterdir()) == []


def test_duplicate_names_raise():
    with pytest.raises(ValueError, match=r"p\.pkl: image '7' is listed twice"):
        ProposalFile("p.pkl", [6, 7, "7"], lambda position: None)
    duplicates = [*RECORDS, {**RECORDS[0], "image_id": 11, "file_name": "more/ten.png"}]
    names = {"ten": BOXES["10"], "nine": BOXES["9"], "hundred": BOXES["100"]}
    with pytest.raises(
        ValueError, match=r"two images of the dataset have the name 'ten': photos/ten\.jpg and more/ten"
    ):
        Converter(source(names, key="file_name"), duplicates)
    with pytest.raises(ValueError, match=r"two images of the dataset have the name '10'"):
        Converter(source(BOXES), [*RECORDS, {**RECORDS[0], "image_id": "10"}])


def test_format_is_guessed_from_the_suffix(tmp_path):
    assert [guess_format(f"a/b{end}") for end in (".arrow", ".PKL", ".mat", ".json", ".pth")] == list(FORMATS.values())
    assert guess_format(str(tmp_path)) == "mat"
    with pytest.raises(ValueError, match=r"b\.txt: unknown suffix '\.txt', specify the format.*\.pkl \(detectron2\)"):
        guess_format("a/b.txt")
    with pytest.raises(FileNotFoundError, match=r"gone\.pkl is missing"):
        read_proposals(str(tmp_path / "gone.pkl"), "pets")


def test_store_of_another_dataset_raises(tmp_path):
    with ProposalStoreWriter(tmp_path / "s.arrow", StoreMetadata("cats", "by hand")):
        pass
    with pytest.raises(ValueError, match=r"s\.arrow contains proposals for 'cats', not for 'dogs'"):
        read_proposals(str(tmp_path / "s.arrow"), "dogs")


@pytest.mark.parametrize("file_format", FORMATS.values())
def test_a_pipe_or_a_folder_instead_of_a_file_raises(tmp_path, file_format):
    os.mkfifo(tmp_path / "p")
    with pytest.raises(ValueError, match=r"p is a pipe, socket or device, not a file"):
        read_proposals(str(tmp_path / "p"), "pets", file_format)
    if file_format != "mat":
        with pytest.raises(ValueError, match="is a folder, not a file"):
            read_proposals(str(tmp_path), "pets", file_format)


def test_full_disk_names_the_file(tmp_path, monkeypatch):
    def full(path, rows):
        with open("/dev/full", "w") as file:
            file.write("text")

    for module, function, suffix in ((coco_results, "write_json", "json"), (detectron2_pickle, "write", "pkl")):
        monkeypatch.setattr(module, function, full)
        with pytest.raises(OSError, match=rf"p\.{suffix} cannot be written \(No space left on device\): free some"):
            write_proposals(str(tmp_path / f"p.{suffix}"), Converter(source(BOXES), RECORDS), "pets")
    assert list(tmp_path.iterdir()) == []
