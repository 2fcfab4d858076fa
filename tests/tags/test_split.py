from itertools import combinations

import cv2
import numpy as np
import pytest

from wsd_distill.tags import read_tags, split_tags
from wsd_distill.tags.hashes import (
    MAX_DISTANCE,
    count_bits,
    difference_hash,
    find_near_pairs,
    group_photos,
    hash_photos,
)
from wsd_distill.tags.stratify import stratify

SPLITS = ["train", "val", "test"]


def make_photo(seed, size=(60, 80)):
    """A smooth random photo, (H, W, 3) uint8."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 7, 3)).astype(np.uint8)
    return cv2.resize(noise, size[::-1], interpolation=cv2.INTER_CUBIC)


def make_photos(folder, labels, order=None, prefix=""):
    """Write a photo for each entry, and a list of them in ``order``."""
    names = [f"{prefix}{i:03d}.png" for i in range(len(labels))]
    for i, name in enumerate(names):
        cv2.imwrite(str(folder / name), make_photo(i))
    lines = [f"{names[i]},{labels[i]}" for i in (range(len(labels)) if order is None else order)]
    (folder / "tags.csv").write_text("\n".join(["file,labels", *lines, ""]))
    return folder / "tags.csv"


def get_splits(table):
    return {name[-7:]: split for name, split in zip(table.files, table.table["split"].to_pylist())}


LABELS = [";".join(n for k, n in enumerate(["sun", "sea", "sky"]) if (i >> k) & 1) for i in range(100)]


def test_split_depends_on_content_alone(tmp_path):
    first = split_tags(read_tags(make_photos(tmp_path, LABELS)), tmp_path)
    (tmp_path / "other").mkdir()
    order = np.random.default_rng(1).permutation(100)
    renamed = make_photos(tmp_path / "other", LABELS, order, prefix="renamed_")
    assert get_splits(split_tags(read_tags(renamed), tmp_path / "other")) == get_splits(first)
    sizes = [list(get_splits(first).values()).count(split) for split in SPLITS]
    assert np.abs(np.array(sizes) - [70, 10, 20]).max() <= 1
    note = "The split is by a hash of the photos, seed 0: {} train, {} val, {} test."
    assert first.notes[-1] == note.format(*sizes)
    assert get_splits(split_tags(read_tags(renamed), tmp_path / "other", seed=1)) != get_splits(first)
    for k in range(3):  # 50, 50 and 48 photos
        positive = first.label_matrix()[:, k] == 1
        counts = [int((positive & (first.table["split"].to_numpy() == split)).sum()) for split in SPLITS]
        assert np.abs(np.array(counts) - positive.sum() * np.array([0.7, 0.1, 0.2])).max() <= 1


def test_equal_and_nearly_equal_photos_stay_together(tmp_path):
    make_photos(tmp_path, LABELS[:40])
    lines = (tmp_path / "tags.csv").read_text().splitlines()
    for i in range(40):
        pixels = cv2.resize(make_photo(i), (56, 42), interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(tmp_path / f"near_{i:03d}.jpg"), pixels, [cv2.IMWRITE_JPEG_QUALITY, 90])
        (tmp_path / f"copy_{i:03d}.png").write_bytes((tmp_path / f"{i:03d}.png").read_bytes())
        lines += [f"near_{i:03d}.jpg,sun", f"copy_{i:03d}.png,sea"]
    (tmp_path / "tags.csv").write_text("\n".join(lines))
    table = split_tags(read_tags(tmp_path / "tags.csv"), tmp_path)
    splits = dict(zip(table.files, table.table["split"].to_pylist()))
    assert all(splits[f"{i:03d}.png"] == splits[f"near_{i:03d}.jpg"] == splits[f"copy_{i:03d}.png"] for i in range(40))
    groups = group_photos(hash_photos([str(tmp_path / file) for file in table.files]))
    assert np.bincount(groups).tolist() == [3] * 40


def test_given_split_is_kept_and_checked(tmp_path):
    make_photos(tmp_path, LABELS[:3])
    text = "file,labels,split\n000.png,sun,train\n001.png,sea,val\n002.png,,test\n"
    (tmp_path / "tags.csv").write_text(text)
    table = read_tags(tmp_path / "tags.csv")
    assert split_tags(table, tmp_path) is table
    cv2.imwrite(str(tmp_path / "002.png"), cv2.resize(make_photo(0), (56, 42), interpolation=cv2.INTER_AREA))
    found = split_tags(table, tmp_path)
    assert found.table["split"].to_pylist() == SPLITS
    assert found.notes[-1] == (
        "WARNING Nearly equal photos in two splits, which may make results too good: 1 (000.png (train) and 002.png "
        "(test)). Move them to one split if they show the same scene, or give no split."
    )
    (tmp_path / "002.png").write_bytes((tmp_path / "000.png").read_bytes())
    with pytest.raises(ValueError, match=r"000\.png \(train\) and 002\.png \(test\) are the same photo: keep each"):
        split_tags(table, tmp_path)
    (tmp_path / "tags.csv").write_text(text.replace("val", "train"))
    with pytest.raises(ValueError, match="the given split has no photo for val: add photos"):
        split_tags(read_tags(tmp_path / "tags.csv"), tmp_path)


def test_errors_of_a_split(tmp_path):
    table = read_tags(make_photos(tmp_path, ["sun", "sea"]))
    with pytest.raises(ValueError, match="2 photos are too few, no photo is left for"):
        split_tags(table, tmp_path)
    with pytest.raises(ValueError, match=r"train, val, test are \(0.5, 0.5, 0.5\): give three with the sum 1"):
        split_tags(table, tmp_path, (0.5, 0.5, 0.5))
    (tmp_path / "001.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"1 of 2 photos cannot be read: .*001\.png"):
        split_tags(table, tmp_path)


def test_difference_hash_of_a_ramp():
    ramp = np.repeat(np.linspace(0, 255, 90).astype(np.uint8)[None, :, None], 80, axis=0).repeat(3, axis=2)
    assert int(difference_hash(ramp)) == 2**64 - 1
    assert int(difference_hash(np.ascontiguousarray(ramp[:, ::-1]))) == 0
    assert difference_hash(np.full((50, 50, 3), 200, np.uint8)) is None


def test_near_pairs_are_those_of_comparing_all():
    generator = np.random.default_rng(0)
    hashes = list(generator.integers(0, 2**63, 300, dtype=np.uint64))
    for value in hashes[:150]:
        flips = generator.choice(64, generator.integers(1, 7), replace=False)
        hashes.append(value ^ np.bitwise_or.reduce(np.uint64(1) << flips.astype(np.uint64)))
    hashes = np.unique(np.array(hashes))
    values = hashes.tolist()
    pairs = combinations(range(len(values)), 2)
    expected = [[i, j] for i, j in pairs if (values[i] ^ values[j]).bit_count() <= MAX_DISTANCE]
    assert 50 < len(expected) < 100
    assert find_near_pairs(hashes).tolist() == expected
    assert count_bits(hashes).tolist() == [value.bit_count() for value in values]
    assert len(find_near_pairs(hashes[:0])) == 0


def test_stratify_by_hand():
    # 10 groups of one photo, class 0 in the first five, class 1 in all: half of each class on either side
    counts = np.array([[1, 1]] * 5 + [[0, 1]] * 5)
    splits = stratify(counts, np.ones(10), (0.6, 0.4))
    assert splits.tolist().count(0) == 6
    assert splits[:5].tolist().count(0) == 3


@pytest.mark.parametrize("seed", range(5))
def test_rare_classes_are_in_each_split(seed):
    generator = np.random.default_rng(seed)
    rates = np.geomspace(0.004, 0.3, 30)
    counts = (generator.random((600, 30)) < rates).astype(int)
    splits = stratify(counts, np.ones(600, int), (0.7, 0.1, 0.2))
    enough = counts.sum(axis=0) >= 3
    assert enough.sum() > 20
    for split in range(3):
        assert (counts[splits == split].sum(axis=0)[enough] > 0).all()
    assert np.abs(np.bincount(splits) - [420, 60, 120]).max() <= 15
