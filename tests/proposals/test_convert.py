import logging

import numpy as np
import pytest
from helpers.proposal_files import BOXES, RECORDS
from PIL import Image

from wsd_distill.data.proposal_store import ProposalStore, ProposalStoreWriter, StoreMetadata
from wsd_distill.proposals.convert import Converter, read_proposals, write_proposals
from wsd_distill.proposals.formats.proposal_file import FORMATS, ProposalFile, guess_format


def source(boxes, **more):
    names = list(boxes)

    def proposals(position):
        found = boxes[names[position]]
        return np.array(found[0], dtype=np.float32).reshape(-1, 4), np.array(found[1], dtype=np.float32)

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
    assert store.metadata.parameters == parameters
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted({"first.arrow", f"other{suffix}", "last.arrow"})


def test_boxes_are_sorted_clipped_dropped_and_counted(caplog):
    caplog.set_level(logging.INFO)
    wild = [[50, 0, 60, 5], [-4, -4, 10, 10], [3, 3, 3, 9], [30, 20, 45, 35]]  # outside, clipped, no width, clipped
    found = convert({**BOXES, "10": (wild, [0.9, 0.2, 0.8, 0.4]), "9": ([], [])})
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
    converter = Converter(source({"a": ([[0, 0, 50, 50]], [1])}), records, missing="whole-image")
    assert [boxes.tolist() for _, boxes, _ in converter.rows()] == [[[0, 0, 30, 40]]] * 2


def test_top_and_sigmoid(caplog):
    logits = {**BOXES, "100": ([[1, 2, 3, 4], [5, 6, 7, 8], [0, 0, 20, 20]], [-np.log(3), 0, np.log(3)])}
    assert convert(logits, top=1)["100"] == ([[0, 0, 20, 20]], [pytest.approx(np.log(3))])
    assert "the lowest score is" not in caplog.text  # the lowest is not kept
    convert(logits)
    assert "the lowest score is -1.1" in caplog.text
    assert convert(logits, sigmoid=True)["100"][1] == pytest.approx([0.75, 0.5, 0.25])


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
        ([[2, 0, 1, 1]], [1], r"p\.pkl: image '9': boxes are not .* with x2 >= x1 and y2 >= y1: check the columns"),
        ([[0, 0, 1, 1]], [1, 2], r"p\.pkl: image '9': boxes \(1, 4\) and scores \(2,\) are not \(R, 4\) and \(R,\)"),
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
