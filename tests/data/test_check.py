import wsd_distill  # noqa: F401

# isort: split
import hashlib
import logging

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from wsd_distill.data.boxes import OUTSIDE
from wsd_distill.data.check import (
    Fault,
    check_datasets,
    check_records,
    check_splits,
    describe,
    group_faults,
    read_images,
    split_hash,
)
from wsd_distill.data.datasets import register_files


@pytest.fixture
def register(restore_catalogs):
    """Function that registers dataset dicts with the classes cat and dog."""

    def add(name, records, images=None):
        DatasetCatalog.register(name, lambda: records)
        MetadataCatalog.get(name).set(thing_classes=["cat", "dog"], expected_images=images)

    return add


def write_image(path, seed=0, **options):
    """Write 40 x 20 pixels of noise and return the dataset dict."""
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (20, 40, 3), np.uint8)).save(path, **options)
    return {"file_name": str(path), "image_id": path.stem, "height": 20, "width": 40, "labels": [0]}


@pytest.mark.parametrize("num_workers", [0, 1])
def test_valid_images(tmp_path, num_workers):
    orientation, unknown = Image.Exif(), Image.Exif()
    orientation[0x0112] = 6  # rotated: 40 x 20 as stored, 20 x 40 upright
    unknown[0x0112] = 9  # invalid: treated as upright, as in training
    records = [
        write_image(tmp_path / "a.png"),
        write_image(tmp_path / "b.jpg"),
        {**write_image(tmp_path / "turned.jpg", exif=orientation), "height": 40, "width": 20},
        write_image(tmp_path / "unknown.jpg", exif=unknown),
        {key: value for key, value in write_image(tmp_path / "no size.png").items() if key not in ("height", "width")},
    ]
    hashes, errors = read_images("name", records, num_workers)
    assert errors == []
    content = (tmp_path / "b.jpg").read_bytes()
    assert hashes.digest[1].tobytes() == hashlib.blake2b(content, digest_size=16).digest()
    assert hashes.is_valid.tolist() == [True] * 5


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_corrupt_files_are_reported(tmp_path, suffix):
    records = [
        write_image(tmp_path / f"{name}.{suffix}") for name in ("cut", "empty", "fine", "gone", "text", "turned")
    ]
    paths = [tmp_path / record["image_id"] for record in records]
    cut, empty, fine, gone, text, turned = (path.with_suffix(f".{suffix}") for path in paths)
    cut.write_bytes(cut.read_bytes()[:-40])
    empty.write_bytes(b"")
    gone.unlink()
    text.write_text("<html>no such photo</html>")
    records[5].update(height=40, width=20)
    hashes, errors = read_images("name", records, 0)
    assert hashes.is_valid.tolist() == [path == fine for path in (cut, empty, fine, gone, text, turned)]
    missing, size, unreadable = "are missing (see dataset.image_root)", "have another size", "are unreadable"
    expected = [
        (missing, str(gone)),
        (unreadable, f"{cut}: OSError"),
        (unreadable, f"{empty}: EOFError: the file is empty"),
        (unreadable, f"{text}: UnidentifiedImageError"),
        (size, f"{turned} is 40 x 20, expected 20 x 40"),
    ]
    assert len(errors) == len(expected)
    for error, (kind, start) in zip(errors, expected):
        assert error.kind == f"name: images {kind}" and error.detail.startswith(start)


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_32_bit_pixels_are_reported_as_in_training(tmp_path, kind):
    Image.fromarray(np.zeros((20, 40), kind)).save(tmp_path / "depth.tif")
    hashes, (error,) = read_images(
        "name", [{"file_name": str(tmp_path / "depth.tif"), "image_id": "depth", "labels": []}], 0
    )
    assert error.detail.startswith(f"{tmp_path}/depth.tif: ValueError: 32-bit pixels")
    assert hashes.is_valid.tolist() == [False]


def test_counts(register):
    records = [
        {"image_id": 1, "file_name": "1.png", "labels": [0, 1]},
        {"image_id": 2, "file_name": "2.png", "labels": [1], "ignore_labels": [0]},
        {"image_id": 3, "file_name": "3.png", "labels": []},
    ]
    register("check_counts", records)
    text = describe("check_counts", records)
    assert "check_counts: 3 images, 3 labels" in text
    assert "labels per image: min 0, mean 1.00, max 2; 1 images have none" in text
    rows = [line.replace(" ", "") for line in text.splitlines()[-2:]]
    assert rows == ["|0|cat|1|1|", "|1|dog|2|0|"]


def test_hash_depends_on_images_labels_and_class_order():
    a, b = {"image_id": "a", "labels": [0]}, {"image_id": "b", "labels": [1]}
    given = split_hash([a, b], ["cat", "dog"])
    expected = hashlib.sha256(b'[["cat", "dog"], [["a", [0], []], ["b", [1], []]]]').hexdigest()[:16]
    assert given == split_hash([b, {**a, "file_name": "elsewhere/a.png"}], ["cat", "dog"]) == expected
    changes = [[a], [a, {**b, "labels": [0]}], [a, {**b, "ignore_labels": [0]}], [a, {**b, "image_id": "c"}]]
    hashes = [split_hash(records, ["cat", "dog"]) for records in changes] + [split_hash([a, b], ["dog", "cat"])]
    assert len({given, *hashes}) == 6


def test_errors_of_the_records(register, tmp_path):
    first, second = write_image(tmp_path / "1.png", 1), write_image(tmp_path / "2.png", 2)
    register("check_list", [first, {**second, "image_id": first["image_id"], "ignore_labels": [2]}], images=3)
    assert list(group_faults(check_datasets(["check_list"], 0))) == [
        "check_list: 2 images, expected 3",
        "check_list: image ids are not unique (1): 2 images have the id '1'",
        f"check_list: labels are not class indices (1): {second['file_name']} has ignore_labels [2]",
    ]


def test_classes_that_cannot_be_learned_or_measured_are_warnings(register):
    records = [{"image_id": i, "file_name": "a.png", "labels": [0] if i else [0, 1]} for i in range(6)]
    register("check_classes", records)
    faults = check_records("check_classes", records)
    assert all(fault.is_warning for fault in faults)
    assert list(group_faults(faults)) == [
        "check_classes: every image has cat: AP is 100 whatever is predicted",
        "check_classes: fewer than 5 images have dog",
    ]
    register("check_none", [{**record, "labels": []} for record in records])
    (fault,) = check_records("check_none", [{**record, "labels": []} for record in records])
    assert not fault.is_warning and "no image has a label" in fault.kind


@pytest.mark.parametrize("with_teacher", [False, True])
def test_one_class_is_an_error_for_t_wdet_alone(restore_catalogs, with_teacher):
    MetadataCatalog.get("check_one").set(thing_classes=["cat"])
    records = [{"image_id": 1, "file_name": "a.png", "labels": [0]}]
    (fault,) = check_records("check_one", records, with_teacher=with_teacher)
    assert "one class only, cat: T-WDet cannot learn it without a background class" in fault.kind
    assert fault.is_warning != with_teacher


def test_faults_of_annotations_are_listed(register):
    faults = [("impossible boxes are left out", "annotations[0]"), (OUTSIDE, "annotations[1]")]
    records = [{"image_id": i, "file_name": "a.png", "labels": [i % 2], "faults": faults[:i]} for i in range(12)]
    register("check_boxes", records)
    assert [
        (fault.detail, fault.is_warning) for fault in check_records("check_boxes", records[:3]) if fault.detail
    ] == [
        ("annotations[0]", True),
        ("annotations[0]", True),
        ("annotations[1]", True),
    ]


def test_faults_of_one_kind_are_counted_and_the_first_named():
    lines = list(group_faults([Fault("a: images are missing", f"{i}.jpg") for i in range(8060)] + [Fault("b: empty")]))
    assert lines == [
        "a: images are missing (8060): 0.jpg; 1.jpg; 2.jpg; 3.jpg; 4.jpg; and 8055 more",
        "b: empty",
    ]


def test_images_in_two_splits_are_reported_and_copies_in_one_counted(register, tmp_path, caplog):
    names = ["a", "b", "copy of a", "again a", "c"]
    a, b, copied, again, c = (write_image(tmp_path / f"{n}.png", seed) for n, seed in zip(names, (1, 2, 1, 1, 3)))
    register("check_train", [a, b, copied], images=3)
    register("check_val", [again, c])
    with caplog.at_level(logging.INFO):
        faults = check_datasets(["check_train", "check_val"], 0)
    found = [fault for fault in faults if not fault.is_warning]
    assert found == [Fault("check_val: images are also in check_train", f"{again['file_name']} as {a['file_name']}")]
    assert "check_train: 1 images are copies of others in it" in caplog.text


def test_dataset_that_cannot_be_loaded_does_not_stop_the_others(register, tmp_path):
    def fail():
        raise FileNotFoundError("labels.json is missing")

    register("check_fine", [write_image(tmp_path / "a.png")])
    register("check_gone", [])
    DatasetCatalog["check_gone"] = fail
    register("check_boxes", [{"file_name": "a.png", "image_id": 1, "annotations": []}])  # Detectron2's own datasets
    faults = check_datasets(["check_gone", "check_boxes", "check_fine"], 0)
    assert [fault.kind for fault in faults if not fault.is_warning] == [
        "check_gone cannot be loaded: labels.json is missing",
        "check_boxes cannot be loaded: check_boxes: image 1 (a.png) has no key 'labels'",
    ]


@pytest.fixture
def splits(register, tmp_path):
    """Function that registers three splits with the given labels of two images each; their files exist."""
    write_image(tmp_path / "a.png")

    def add(train, val, test, file=tmp_path / "a.png"):
        names = {}
        for split, labels in {"train": train, "val": val, "test": test}.items():
            names[split] = f"splits_{split}"
            register(names[split], [{"image_id": i, "file_name": str(file), "labels": k} for i, k in enumerate(labels)])
        return names

    return add


def test_splits_to_train_on(splits):
    check_splits(splits([[0], [1]], [[0]], [[1], []]))


@pytest.mark.parametrize(
    "labels, message",
    [
        (([[0], [1]], [[], []], [[1]]), "the val split, splits_val, has no positive label in its 2 images: add images"),
        (([[0], [1]], [[0]], [[]]), "the test split, splits_test, has no positive label in its 1 images"),
        (([[]], [[0]], [[1]]), "the train split, splits_train, has no positive label"),
        (([[0]], [[0]], [[1]]), r"no training image has classes .* \(test has dog\): add training images"),
        (([[1]], [[0]], [[0]]), r"\(val has cat; test has cat\)"),
    ],
)
def test_splits_that_cannot_be_evaluated(splits, labels, message):
    with pytest.raises(ValueError, match=message):
        check_splits(splits(*labels))


def test_images_that_are_not_found(splits, tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"the train split, splits_train: none of its 2 images exists.*image_root"
    ):
        check_splits(splits([[0], [1]], [[0]], [[1]], file=tmp_path / "gone.png"))
    registered = splits_of(48, tmp_path)
    with pytest.raises(FileNotFoundError, match="none of 24 of its 48 images exists"):
        check_splits(registered)


def splits_of(count, folder):
    records = [{"image_id": i, "file_name": str(folder / "gone.png"), "labels": [0]} for i in range(count)]
    DatasetCatalog.register("many", lambda: records)
    MetadataCatalog.get("many").set(thing_classes=["cat"])
    return {"train": "many"}


def test_a_refused_file_is_one_error(restore_catalogs, tmp_path, caplog):
    """val.csv has labels that only the refused file could explain."""
    (tmp_path / "train.csv").write_text("file,labels\na.png,cat\na.png,dog\n")
    (tmp_path / "val.csv").write_text("file,labels\nb.png,cow\n")
    files = {"train": "train.csv", "val": "val.csv", "test": "val.csv"}
    register_files("refused", {split: str(tmp_path / file) for split, file in files.items()})
    with caplog.at_level(logging.INFO):
        (fault,) = check_datasets(["refused_train", "refused_val", "refused_test"], 0)
    assert f"{tmp_path}/train.csv, line 3: 'a.png' is already listed" in fault.kind
    assert "refused_val cannot be checked before refused_train is corrected" in caplog.text


def test_faults_name_the_file_of_their_dataset(restore_catalogs, tmp_path):
    (tmp_path / "list.csv").write_text("file,labels\na.png,cat\nb.png,dog\n")
    register_files("named", dict.fromkeys(("train", "val", "test"), str(tmp_path / "list.csv")))
    start = f"named_train ({tmp_path}/list.csv): "
    assert all(fault.kind.startswith(start) for fault in check_datasets(["named_train"], 0))
