import logging

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from wsd_distill.data.datasets import voc

OBJECT = """<object><name>{name}</name>{difficult}
<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>
<bndbox><xmax>{box[2]}</xmax><xmin>{box[0]}</xmin><ymax>{box[3]}</ymax><ymin>{box[1]}</ymin></bndbox></object>"""
BOX = (1, 2, 30.5, 20)
CAT, DOG, PERSON = 7, 11, 14


def xml(*objects):
    """Return an annotation from (name, difficult); None omits the element."""
    flags = {None: "", 0: "<difficult>0</difficult>", 1: "<difficult>1</difficult>"}
    nodes = "".join(OBJECT.format(name=name, difficult=flags[difficult], box=BOX) for name, difficult in objects)
    size = "<size><width>30</width><height>20</height><depth>3</depth></size>"
    return f"<annotation>{size}<segmented>0</segmented>{nodes}</annotation>"


ANNOTATIONS = {
    "000005": xml(("cat", 0), ("cat", 1), ("dog", 1)),
    "000007": xml(("person", None)),
    "000012": xml(("dog", 1), ("dog", 1)),
}


@pytest.fixture
def tree(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    folder = tmp_path / "VOC2007"
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    for image_id, text in ANNOTATIONS.items():
        (folder / "Annotations" / f"{image_id}.xml").write_text(text)
    (folder / "ImageSets" / "Main" / "trainval.txt").write_text("000007\r\n000005\r\n000012\r\n")
    return folder


def test_classes_with_difficult_objects_only_are_ignored(tree, caplog):
    with caplog.at_level(logging.INFO):
        person, cat, dog = DatasetCatalog.get("voc_2007_trainval_mlc")
    assert (person["labels"], person["ignore_labels"]) == ([PERSON], [])
    assert (cat["labels"], cat["ignore_labels"]) == ([CAT], [DOG])
    assert (dog["labels"], dog["ignore_labels"]) == ([], [DOG])
    assert [a["difficult"] for a in cat["annotations"]] == [0, 1, 1]
    assert "2 labels in 2 images ignored: difficult objects only" in caplog.text


def test_image_size_and_box(tree):
    record = voc.load_voc(2007, "trainval")[0]
    box = {"bbox": [0, 1, 30.5, 20], "bbox_mode": BoxMode.XYXY_ABS, "category_id": PERSON, "difficult": 0}
    assert record["annotations"] == [box]
    assert (record["image_id"], record["height"], record["width"]) == ("000007", 20, 30)
    assert record["file_name"] == str(tree / "JPEGImages" / "000007.jpg")


@pytest.mark.parametrize(
    "text, message",
    [
        (ANNOTATIONS["000012"][:100], "no element found|unclosed"),
        ("<annotation/>", "no element size/height"),
        (xml(("catt", 0)), r"'catt' is not in the list of 20 classes; did you mean 'cat'\?"),
        (xml(("cat", 0)).replace("<width>30", "<width>0"), "the size is 0 x 20"),
        (xml(("cat", 0)).replace("<difficult>0", "<difficult>no"), "the element difficult is 'no', not 0 or 1"),
    ],
)
def test_invalid_annotation_raises(tree, text, message):
    (tree / "Annotations" / "000012.xml").write_text(text)
    with pytest.raises(ValueError, match=rf"000012\.xml is truncated or not a valid VOC annotation: .*({message})"):
        voc.load_voc(2007, "trainval")


def test_missing_files_raise(tree):
    with pytest.raises(FileNotFoundError, match=r"VOC2007.ImageSets.Main.test\.txt is missing: see datasets/README"):
        DatasetCatalog.get("voc_2007_test_mlc")
    (tree / "Annotations" / "000005.xml").unlink()
    with pytest.raises(FileNotFoundError, match=r"000005\.xml is missing"):
        DatasetCatalog.get("voc_2007_trainval_mlc")


def test_duplicate_image_raises(tree):
    (tree / "ImageSets" / "Main" / "val.txt").write_text("000007\n000005\n000007\n")
    with pytest.raises(ValueError, match=r"val\.txt: image '000007' is listed twice"):
        voc.load_voc(2007, "val")


def test_names_and_class_order():
    names = [f"voc_{year}_{split}_mlc" for year, splits in voc.IMAGES.items() for split in splits]
    assert len(names) == 7 and set(names) < set(DatasetCatalog.list())
    for name in names:
        classes = MetadataCatalog.get(name).thing_classes
        assert (len(classes), classes[CAT], classes[DOG], classes[PERSON]) == (20, "cat", "dog", "person")


@pytest.mark.parametrize("x", ["", "<xmin/>", *(f"<xmin>{x}</xmin>" for x in ("nan", "inf", "ten", "-40", "35"))])
def test_labels_of_impossible_boxes_are_kept(tree, caplog, x):
    text = ANNOTATIONS["000007"].replace(f"<xmin>{BOX[0]}</xmin><ymax>{BOX[3]}", f"{x}<ymax>{BOX[3]}")
    (tree / "Annotations" / "000007.xml").write_text(text)
    record = voc.load_voc(2007, "trainval")[0]
    assert (record["labels"], record["annotations"]) == ([PERSON], [])
    ((kind, detail),) = record["faults"]
    assert "left out" in kind and "000007.xml, object 0: the box [" in detail
    assert "trainval.txt: impossible boxes are left out, and their labels kept (1)" in caplog.text
    assert "0 labels in 0 images" not in caplog.text


def test_an_image_id_cannot_leave_the_folder(tree):
    (tree / "ImageSets" / "Main" / "val.txt").write_text("../../elsewhere/1\n")
    with pytest.raises(ValueError, match=r"image '\.\./\.\./elsewhere/1': .* is outside of the image folder"):
        voc.load_voc(2007, "val")
