import pytest

from wsd_distill.proposals.formats.proposal_file import ProposalFile
from wsd_distill.proposals.image_names import match_images


def match(names, ids, files=None, key="image_id"):
    files = files or [f"photos/{name}.jpg" for name in ids]
    records = [{"image_id": image_id, "file_name": file} for image_id, file in zip(ids, files)]
    return match_images(ProposalFile("p.pkl", names, None, key=key), records)


@pytest.mark.parametrize(
    "names, ids",
    [
        (["000012", "000100"], ["000012", "000100"]),
        ([12, 100], ["000012", "000100"]),  # leading zeros lost
        (["12.jpg", "100.jpg"], ["000012", "000100"]),
        (["000012.jpg", "000100.JPG"], ["000012", "000100"]),
        (["JPEGImages/000012.jpg", "JPEGImages/000100.jpg"], ["000012", "000100"]),
        (["000", "001"], ["train/000.jpg", "train/001.jpg"]),
        ([0, 1], ["train/000.jpg", "train/001.jpg"]),
        (["photos/train/000.png", "photos/train/001.png"], ["train/000.jpg", "train/001.jpg"]),
        ([100001, 12], ["100001", "000012"]),  # the first is the same in both forms
    ],
)
def test_unambiguous_forms_are_matched_and_logged(names, ids, caplog):
    files = [f"VOC/JPEGImages/{name}" if "." in name else f"VOC/JPEGImages/{name}.jpg" for name in ids]
    assert match(names, ids, files) == [str(name) for name in names]
    assert ("p.pkl: names are matched " in caplog.text) == (names != ids)


def test_the_log_shows_both_spellings(caplog):
    match([0, 1], ["train/000.jpg", "train/001.jpg"])
    assert "p.pkl: names are matched as numbers: '0' -> 'train/000.jpg'" in caplog.text


@pytest.mark.parametrize("key", ["image_id", "file_name"])
@pytest.mark.parametrize(
    ("spell", "how"),
    [(int, "as numbers: '0' -> "), ("{:03}".format, "without folder and suffix: '000' -> ")],
)
def test_names_of_another_split_with_equal_numbers_raise(spell, how, key):
    """48 images of a training split for the 20 of a validation split; exact names may leave over any number."""
    ids = [f"val/{i:03}.jpg" for i in range(20)] if key == "image_id" else list(range(1000, 1020))
    files = [f"photos/val/{i:03}.jpg" for i in range(20)]
    with pytest.raises(ValueError, match=rf"p\.pkl: 28 of its 48 names .*{how}'.*val/000\.jpg': .* of another split"):
        match([spell(i) for i in range(48)], ids, files)
    assert match([spell(i) for i in range(40)], ids, files) == [str(spell(i)) for i in range(20)]
    names = [f"val/{i:03}.png" for i in range(48)]
    assert match(names, ids, files) == names[:20]
    assert match([f"{i:03}" for i in range(48)], [f"{i:03}" for i in range(20)]) == [f"{i:03}" for i in range(20)]


def test_names_of_mat_files_with_a_suffix():
    files = ["photos/a.b.jpg", "photos/c.jpg"]
    assert match(["a.b.jpg", "c.jpg"], [1, 2], files, key="file_name") == ["a.b.jpg", "c.jpg"]


@pytest.mark.parametrize(
    "names, ids",
    [
        (["val/000.jpg", "val/001.jpg"], ["train/000.jpg", "train/001.jpg"]),  # another folder
        (["000", "001"], ["train/000.jpg", "val/000.jpg"]),  # two images
        (["a/000.jpg", "b/000.jpg"], ["000"]),  # another folder, twice
        ([0, 1, 2], ["000001", "000005"]),  # numbers in the order of a list
        (["1", "01"], ["001"]),  # two names for one image
        (["dog"], ["cat"]),
    ],
)
def test_other_names_raise_with_both_spellings(names, ids):
    message = (
        rf"p\.pkl: no name of an image is in the dataset: the file has '{names[0]}'.*, and the dataset has image id "
    )
    with pytest.raises(ValueError, match=message) as caught:
        match(names, ids)
    assert f"'{ids[0]}' (photos/{ids[0]}.jpg)" in str(caught.value)
    assert "--missing" not in str(caught.value)


def test_some_images_may_be_missing():
    assert match(["a", "b", "x"], ["a", "c", "b"]) == ["a", None, "b"]
    assert match(["p/a.jpg", "p/b.jpg"], ["a", "b", "c"], ["p/a.png", "p/b.png", "p/c.png"]) == [
        "p/a.jpg",
        "p/b.jpg",
        None,
    ]
    assert match([], []) == []
