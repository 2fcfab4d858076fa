import copy
import json
import logging

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from wsd_distill.data.datasets import coco, register_coco

CLASSES = ["cat", "dog", "bus"]
CONTENT = {
    "images": [
        {"id": 7, "file_name": "a.jpg", "height": 20, "width": 30},
        {"id": 5, "file_name": "empty.jpg", "height": 20, "width": 30},
        {"id": 9, "file_name": "crowd.jpg", "height": 40, "width": 10},
    ],
    "annotations": [
        {"image_id": 7, "category_id": 90, "bbox": [1, 2, 3, 4], "iscrowd": 0, "segmentation": [[1, 2, 3, 4, 5, 6]]},
        {"image_id": 7, "category_id": 3, "bbox": [5, 6, 7, 8], "iscrowd": 0},
        {"image_id": 7, "category_id": 90, "bbox": [0, 0, 1, 1]},
        {"image_id": 9, "category_id": 17, "bbox": [0, 0, 5, 5], "iscrowd": 1},
    ],
    "categories": [{"id": 90, "name": "bus"}, {"id": 3, "name": "cat"}, {"id": 17, "name": "dog"}],
}


def write(path, content=CONTENT):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def test_labels_boxes_and_class_order(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        first, second = coco.load_coco(write(tmp_path / "i.json"), tmp_path / "images", CLASSES)
    assert first == {
        "file_name": str(tmp_path / "images" / "a.jpg"),
        "image_id": 7,
        "height": 20,
        "width": 30,
        "labels": [0, 2],
        "annotations": [
            {"bbox": [1, 2, 3, 4], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 2, "iscrowd": 0},
            {"bbox": [5, 6, 7, 8], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0, "iscrowd": 0},
            {"bbox": [0, 0, 1, 1], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 2, "iscrowd": 0},
        ],
    }
    assert (second["image_id"], second["labels"], second["annotations"][0]["iscrowd"]) == (9, [1], 1)
    assert "i.json: 1 of 3 images dropped: no label" in caplog.text


@pytest.mark.parametrize(
    "text, message",
    [
        ('{"images": [', r"i\.json is truncated or not JSON"),
        ("[]", r"i\.json is not a COCO instances file: it has no list 'images'"),
        ('{"images": [], "annotations": []}', "no list 'categories'"),
        ('{"images": [7], "annotations": [], "categories": []}', r"images\[0\] lacks"),
        (
            '{"images": [], "annotations": [{"image_id": 1, "caption": "a cat"}], "categories": []}',
            r"\['category_id', ",
        ),
    ],
)
def test_json_in_another_format_raises(tmp_path, text, message):
    (tmp_path / "i.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        coco.load_coco(tmp_path / "i.json", tmp_path, [])


@pytest.mark.parametrize(
    "part, entry, message",
    [
        ("images", {"id": 9, "file_name": "b.jpg", "height": 1, "width": 1}, "image '9' is listed twice"),
        ("annotations", {"image_id": 8, "category_id": 3, "bbox": []}, r"annotations\[4\] has the unknown image_id 8"),
        ("annotations", {"image_id": 9, "category_id": 4, "bbox": []}, "unknown category_id 4"),
        (
            "categories",
            {"id": 4, "name": "cow"},
            r"categories \['cat', 'cow', 'dog', 'bus'\] .* expected \['cat', 'dog'",
        ),
    ],
)
def test_inconsistent_entries_raise(tmp_path, part, entry, message):
    content = copy.deepcopy(CONTENT)
    content[part].append(entry)
    with pytest.raises(ValueError, match=rf"i\.json.*{message}"):
        coco.load_coco(write(tmp_path / "i.json", content), tmp_path, CLASSES)


def test_releases_are_found_in_detectron2s_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"instances_val2017\.json is missing: see datasets/README\.md"):
        DatasetCatalog.get("coco_2017_val_mlc")
    ids = [category["id"] for category in coco.COCO_CATEGORIES if category["isthing"]]
    categories = [{"id": i, "name": name} for i, name in zip(ids, coco.CLASSES)]
    write(tmp_path / "coco" / "annotations" / "instances_val2017.json", {**CONTENT, "categories": categories})
    first, second = DatasetCatalog.get("coco_2017_val_mlc")
    assert first["file_name"] == str(tmp_path / "coco" / "val2017" / "a.jpg")
    names = MetadataCatalog.get("coco_2017_val_mlc").thing_classes
    # COCO's ids: 3 car, 17 cat, 90 toothbrush, the last of 80
    assert [[names[k] for k in record["labels"]] for record in (first, second)] == [["car", "toothbrush"], ["cat"]]
    assert first["labels"][1] == 79


def test_registering_twice_is_allowed_with_equal_arguments_only(tmp_path, restore_catalogs):
    path = str(write(tmp_path / "i.json"))
    for _ in range(2):
        register_coco("own_coco", path, "images", CLASSES)
    assert len(DatasetCatalog.get("own_coco")) == 2
    with pytest.raises(ValueError, match=r"'own_coco' is already registered with other arguments: choose another name"):
        register_coco("own_coco", path, "elsewhere", CLASSES)
    with pytest.raises(ValueError, match="'coco_2014_train' is already registered"):  # Detectron2's own
        register_coco("coco_2014_train", path, "images", CLASSES)


def test_registered_names_and_evaluator():
    for year in (2014, 2017):
        for split in ("train", "val"):
            metadata = MetadataCatalog.get(f"coco_{year}_{split}_mlc")
            assert (len(metadata.thing_classes), metadata.evaluator_type) == (80, "multilabel")


@pytest.mark.parametrize(
    "box",
    [
        *([], None, "1 2 3 4", ["1", 2, 3, 4], [1, 2, 3], [1, 2, float("nan"), 4], [1, 2, 10**400, 4], [True, 2, 3, 4]),
        *([10, 10, -5, 5], [10, 10, 5, -5], [-40, -40, 5, 5], [100, 100, 5, 5], [0, 0, 1e9, 5]),
    ],
)
def test_labels_of_impossible_boxes_are_kept(tmp_path, caplog, box):
    content = copy.deepcopy(CONTENT)
    content["annotations"][1]["bbox"] = box
    first, second = coco.load_coco(write(tmp_path / "i.json", content), tmp_path, CLASSES)
    assert first["labels"] == [0, 2]
    assert [annotation["category_id"] for annotation in first["annotations"]] == [2, 2]
    ((kind, detail),) = first["faults"]
    assert kind == "impossible boxes are left out, and their labels kept"
    assert detail.startswith(f"annotations[1] ({tmp_path}/a.jpg): the box ")
    assert "faults" not in second
    assert "i.json: impossible boxes are left out, and their labels kept (1); the first: " in caplog.text


def test_boxes_beyond_the_border_are_kept_and_named(tmp_path):
    content = copy.deepcopy(CONTENT)
    content["annotations"][1]["bbox"] = [-5, 6, 7, 8]
    first, _ = coco.load_coco(write(tmp_path / "i.json", content), tmp_path, CLASSES)
    assert len(first["annotations"]) == 3
    assert first["faults"][0][0] == "boxes reach outside of their image, and are kept"


def test_ids_of_mixed_types_are_matched_and_named(tmp_path):
    content = copy.deepcopy(CONTENT)
    content["categories"][1]["id"] = "3"
    content["annotations"][0]["image_id"] = "7"
    first, _ = coco.load_coco(write(tmp_path / "i.json", content), tmp_path, CLASSES)
    assert first["labels"] == [0, 2]
    assert first["faults"] == [
        ("ids of mixed types are compared as text", "annotations[0] has the image_id '7'"),
        ("ids of mixed types are compared as text", "categories[1] has the id '3'"),
    ]
    content["categories"][0]["id"] = 3
    with pytest.raises(ValueError, match="category id '3' is listed twice"):
        coco.load_coco(write(tmp_path / "i.json", content), tmp_path, CLASSES)


@pytest.mark.parametrize(
    "part, key, value",
    [
        *(("images", "id", None), ("images", "height", "20"), ("images", "width", 0), ("images", "file_name", 5)),
        *(("categories", "name", None), ("categories", "id", [1]), ("annotations", "image_id", True)),
    ],
)
def test_fields_of_another_type_raise(tmp_path, part, key, value):
    content = copy.deepcopy(CONTENT)
    content[part][0][key] = value
    with pytest.raises(ValueError, match=rf"i\.json is not a COCO instances file: {part}\[0\] has the {key} "):
        coco.load_coco(write(tmp_path / "i.json", content), tmp_path, CLASSES)


def test_classes_are_those_of_the_file(tmp_path, restore_catalogs):
    path = str(write(tmp_path / "i.json"))
    register_coco("own_coco", path)
    assert MetadataCatalog.get("own_coco").thing_classes == CLASSES
    assert DatasetCatalog.get("own_coco")[0]["file_name"] == str(tmp_path / "a.jpg")
    for arguments in ((5,), (path, 5), (path, None, 5), (path, None, [1])):
        with pytest.raises(ValueError, match="is 5: set it to text|dataset.classes=5|class 1 is not text"):
            register_coco("other", *arguments)


def test_categories_are_checked_like_labels(tmp_path, restore_catalogs):
    content = copy.deepcopy(CONTENT)
    content["categories"][0]["name"] = "cat,dog"
    path = str(write(tmp_path / "i.json", content))
    with pytest.raises(ValueError, match=r"i\.json: 1 of 3 labels look wrong: category 90: label 'cat,dog' contains"):
        register_coco("own_coco", path)
    register_coco("own_coco", path, classes=["cat", "dog", "cat,dog"])


def test_images_elsewhere_are_refused_unless_allowed(tmp_path):
    content = copy.deepcopy(CONTENT)
    content["images"][0]["file_name"] = "https://host/a.jpg"
    content["images"][2]["file_name"] = "../c.jpg"
    path = write(tmp_path / "i.json", content)
    with pytest.raises(ValueError, match=r"i\.json: images\[0\]: 'https://host/a.jpg' would be read from the network"):
        coco.load_coco(path, tmp_path, CLASSES)
    with pytest.raises(ValueError, match=r"images\[2\]: '../c.jpg' is outside of the image folder"):
        coco.load_coco(path, tmp_path, CLASSES, allow_remote=True)
    first, _ = coco.load_coco(path, tmp_path, CLASSES, allow_remote=True, allow_outside=True)
    assert first["file_name"] == "https://host/a.jpg"
