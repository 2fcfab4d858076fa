"""Photos without tags that wsd train may use: no copy of a tagged photo, above all not of val and test."""

import numpy as np
import pytest
from PIL import Image

from wsd_distill.tags import read_tags
from wsd_distill.tags.hashes import hash_photos
from wsd_distill.tags.unlabelled import find_unlabelled


def make_photo(seed):
    """A photo of 8 x 8 grey squares with noise."""
    rng = np.random.default_rng(seed)
    grey = rng.integers(0, 250, (8, 8), np.uint8).repeat(16, 0).repeat(16, 1)
    return Image.fromarray(np.stack([grey] * 3, 2) + rng.integers(0, 5, (128, 128, 3), np.uint8))


@pytest.fixture
def folder(tmp_path):
    for name in ("photos", "more/sub"):
        (tmp_path / name).mkdir(parents=True)
    lines = ["file,labels,split"]
    for i, split in enumerate(("train", "train", "val", "test")):
        make_photo(i).save(tmp_path / f"photos/{i}.png")
        lines.append(f"{i}.png,{'cat' if i % 2 else 'dog'},{split}")
    (tmp_path / "tags.csv").write_text("\n".join(lines))
    make_photo(10).save(tmp_path / "more/new.png")
    make_photo(11).save(tmp_path / "more/sub/new.png")
    return tmp_path


def find(folder, source="more"):
    table = read_tags(folder / "tags.csv", folder / "photos")
    hashes = hash_photos([str(folder / "photos" / file) for file in table.files])
    return find_unlabelled(folder / source, table, folder / "photos", hashes)


def test_a_folder_without_copies(folder):
    files, notes = find(folder)
    assert files == [f"{folder}/more/new.png", f"{folder}/more/sub/new.png"]
    assert notes == ["Photos without tags: 2 of 2 are used."]


def test_copies_of_tagged_photos_and_broken_ones_are_left_out(folder):
    (folder / "more/same.png").write_bytes((folder / "photos/2.png").read_bytes())
    make_photo(3).resize((90, 90)).save(folder / "more/near.jpg", quality=80)
    make_photo(0).save(folder / "more/tagged.jpg", quality=90)
    (folder / "more/broken.jpg").write_bytes(b"no photo")
    (folder / "more/another.jpg").write_bytes(b"no photo")
    files, notes = find(folder)
    assert files == [f"{folder}/more/new.png", f"{folder}/more/sub/new.png"]
    more = folder / "more"
    assert notes == [
        "Photos without tags: 2 of 7 are used.",
        f"2 are left out, because val or test has the same or nearly the same photo: {more}/near.jpg, {more}/same.png.",
        f"1 are left out, because a tagged training photo is the same or nearly the same: {more}/tagged.jpg.",
        f"2 are left out, because they cannot be read: {more}/another.jpg, {more}/broken.jpg.",
    ]


def test_a_list_is_relative_to_the_folder_of_the_photos(folder):
    make_photo(20).save(folder / "photos/extra.png")
    (folder / "list.csv").write_text(f"file\nextra.png\n{folder}/more/new.png\n1.png\n")
    files, notes = find(folder, "list.csv")
    assert files == [f"{folder}/photos/extra.png", f"{folder}/more/new.png"]
    assert notes[0] == "Photos without tags: 2 of 3 are used."


def test_nothing_is_left(folder):
    (folder / "list.csv").write_text("file\n2.png\n")
    with pytest.raises(ValueError, match=r"list.csv has no photo to train on. .* 0 of 1 .* val or test .*2.png. Give"):
        find(folder, "list.csv")
    with pytest.raises(FileNotFoundError, match="--unlabelled .*/none does not exist: give a folder or a list"):
        find(folder, "none")
