import json
import re
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from wsd_distill.cli import main


def make_folder(folder, lines, count=12):
    (folder / "photos").mkdir()
    for i in range(count):
        noise = np.random.default_rng(i).integers(0, 256, (6, 7, 3)).astype(np.uint8)
        cv2.imwrite(str(folder / "photos" / f"{i}.png"), cv2.resize(noise, (80, 60)))
    (folder / "tags.csv").write_text("\n".join(["file,labels", *lines, ""]))


def run(folder, *options):
    return main(["check", str(folder / "tags.csv"), "--images", str(folder / "photos"), *options])


GOOD = [f"{i}.png,{'sun;sea' if i % 2 else 'sun;?sea' if i == 0 else 'sea'}" for i in range(12)]


def test_good_tags(tmp_path, capsys):
    make_folder(tmp_path, [f"{i}.png,{'sun' if i % 2 else 'sea'}" for i in range(12)])
    assert run(tmp_path) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:] == ["12 photos, 2 classes, 12 tags", "        6 sea", "        6 sun", "0 errors, 0 warnings"]


def test_findings_and_page(tmp_path, capsys):
    make_folder(tmp_path, [*GOOD, "gone.png,sea", "copy.png,bike", "bad.png,sun", "empty.png,", "twin.png,sea"])
    photos = tmp_path / "photos"
    (photos / "copy.png").write_bytes((photos / "1.png").read_bytes())
    (photos / "twin.png").write_bytes((photos / "2.png").read_bytes())
    (photos / "bad.png").write_bytes((photos / "1.png").read_bytes()[:50])
    cv2.imwrite(str(photos / "empty.png"), cv2.resize(cv2.imread(str(photos / "3.png"))[::-1], (50, 50)))
    assert run(tmp_path, "--out", str(tmp_path / "page.html")) == 1
    out = capsys.readouterr().out
    for text in (
        "17 photos, 3 classes, 22 tags",
        r"ERROR Photos that are not in .*photos: 1 of 17 \(gone\.png\)\. Correct --images",
        r"ERROR Photos that cannot be read: 1 of 17 \(bad\.png \(.*\)\)\. Replace them",
        r"WARNING Fewer than 5 images have bike\. Add photos",
        r"WARNING Equal or nearly equal photos with different tags: 1 groups \(1\.png = copy\.png\)\. Correct the tags",
        r"WARNING Equal photos: 1 groups \(2\.png = twin\.png\)",
        r"WARNING Photos without a tag, .*: 1 of 17 \(empty\.png\)",
        r"WARNING Unknown tags, .*: 1 in 1 photos",
        "2 errors, 5 warnings",
    ):
        assert re.search(text, out), text
    page = (tmp_path / "page.html").read_text()
    check_html(page)
    assert "2 errors, 5 warnings" in page
    assert page.count("data:image/jpeg;base64,") == 14 + 2 + 2 + 1  # samples, two pairs, one without a tag
    assert not re.search(r'(src|href)="(?!data:|#)', page)  # nothing is loaded


def test_photos_in_two_splits(tmp_path, capsys):
    make_folder(tmp_path, [])
    lines = [f"{i}.png,{'sun' if i % 2 else 'sea'},{['train', 'val', 'test'][i // 5]}" for i in range(12)]
    (tmp_path / "tags.csv").write_text("\n".join(["file,labels,split", *lines, ""]))
    (tmp_path / "photos" / "10.png").write_bytes((tmp_path / "photos" / "0.png").read_bytes())
    near = cv2.resize(cv2.imread(str(tmp_path / "photos" / "1.png")), (56, 42), interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(tmp_path / "photos" / "11.png"), near)
    assert run(tmp_path) == 1
    out = capsys.readouterr().out
    assert "ERROR Photos in two splits, which make results too good: 1 (0.png (train) is 10.png (test))" in out
    text = "WARNING Nearly equal photos in two splits, which may make results too good: 1 "
    assert f"{text}(1.png (train) and 11.png (test)). Move them to one split" in out


@pytest.mark.parametrize(
    "lines, text",
    [
        (["1.png,sun", "2.png,Sun"], r"line 3: label 'Sun' differs from 'sun' .* in case, white space or Unicode form"),
        (["1.png,sun", "1.png,sea"], r"line 3: '1\.png' is already listed"),
        (["1.png,sun", "2.png,sun"], "There is one class only, sun. Add a second class"),
    ],
)
def test_tags_with_errors(tmp_path, capsys, lines, text):
    make_folder(tmp_path, lines)
    assert run(tmp_path, "--separator", ";") == 1
    assert re.search(f"ERROR .*{text}", capsys.readouterr().out)


def test_a_separator_that_is_none_is_a_wrong_option(tmp_path, capsys):
    make_folder(tmp_path, GOOD)
    assert run(tmp_path, "--separator", "xx") == 2
    assert "the separator of labels is 'xx': give one character, or one of" in capsys.readouterr().err


def test_faults_of_all_rows_are_listed_and_the_rest_is_checked(tmp_path, capsys):
    bad = [",sun", ",sea", "12.png,sun;?sun", "1.png,sea", "../a.png,sun", "http://b/c.png,sun"]
    bad += [f"{name}.png,n/a" for name in "defghij"] + ["0.png,SUN"]
    make_folder(tmp_path, [*GOOD, *bad])
    assert run(tmp_path, "--out", str(tmp_path / "page.html")) == 1
    out = capsys.readouterr().out
    line = f"{tmp_path}/tags.csv, line"
    for text in (
        f"ERROR Rows without a file name: 2 ({line} 14: no file name; {line} 15: no file name). Write one",
        f"ERROR Rows with a label that is also unknown: 1 ({line} 16: 'sun' is both a label and unknown). Write",
        f"ERROR Photos that are listed again: 2 ({line} 17: '1.png' is already listed ({line} 3); {line} 27: ",
        f"ERROR Names that are outside of the folder of the photos: 1 ({line} 18: '../a.png' is outside of the folder",
        f"ERROR Names that are addresses: 1 ({line} 19: 'http://b/c.png' is an address). Download the photo",
        f"ERROR Labels that look wrong, in 7 rows: 1 ({line} 20: label 'n/a' is a word for an empty field)",
        "12 photos, 2 classes, 18 tags",
        "WARNING Unknown tags",
        "6 errors, 2 warnings",
    ):
        assert text in out, text
    page = (tmp_path / "page.html").read_text()
    check_html(page)
    assert "Error: Rows without a file name: 2." in page and "line 15: no file name" in page


def test_many_rows_of_one_kind_are_counted(tmp_path, capsys):
    make_folder(tmp_path, [])
    rows = [f"{i}.png,{'1,0' if i < 4 else '0,x'},{'train' if i % 2 else 'dev'}" for i in range(12)]
    (tmp_path / "tags.csv").write_text("\n".join(["file,sun,sea,split", *rows, ""]))
    assert run(tmp_path, "--out", str(tmp_path / "page.html")) == 1
    out = capsys.readouterr().out
    assert (
        "ERROR Rows with another split: 6 (" in out and "line 10: the split is 'dev'; and 1 more). Write train" in out
    )
    assert "ERROR Rows with another value than 1, 0 or -1 for a class: 8 (" in out
    assert "line 10: the column 'sea' has 'x'; and 3 more). Write 1, 0, or -1" in out
    assert "2 photos, 2 classes, 2 tags" in out
    page = (tmp_path / "page.html").read_text()
    assert "8 in all" in page and "<p>The first 5 are listed.</p>" in page


def test_no_row_that_can_be_read(tmp_path, capsys):
    make_folder(tmp_path, [",sun", ",sea"])
    assert run(tmp_path, "--out", str(tmp_path / "page.html")) == 1
    out = capsys.readouterr().out
    assert "0 photos, 0 classes, 0 tags\nERROR Rows without a file name: 2 (" in out and "1 error, 0 warnings" in out
    page = (tmp_path / "page.html").read_text()
    check_html(page)
    assert "Error: Rows without a file name: 2." in page


def test_an_error_of_the_file_follows_the_faults_of_its_rows(tmp_path, capsys):
    make_folder(tmp_path, [",sun", '1.png,"sun,sea"', "2.png,sun;sea"])
    assert run(tmp_path, "--out", str(tmp_path / "page.html")) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("ERROR Rows without a file name: 1 (") and "correct these lines" in lines[1]
    assert lines[2].endswith("page.html is not written: correct this first")


def test_decisions_wait_for_rows_that_can_be_read(tmp_path, capsys):
    make_folder(tmp_path, [*GOOD[:11], "11.png,sun;?sun"])
    (tmp_path / "decisions.csv").write_text("file,label,decision\n11.png,sun,keep\n")
    assert run(tmp_path, "--decisions", str(tmp_path / "decisions.csv")) == 1
    out = capsys.readouterr().out
    assert "decisions.csv is not applied: correct the rows first" in out and "11 photos, 2 classes" in out


def test_labels_that_are_not_in_the_classes(tmp_path, capsys):
    make_folder(tmp_path, [*GOOD[:10], "10.png,fox", "11.png,sun;ox"])
    (tmp_path / "classes.txt").write_text("sea\nsun\n")
    assert run(tmp_path, "--classes", str(tmp_path / "classes.txt")) == 1
    out = capsys.readouterr().out
    line = f"{tmp_path}/tags.csv, line"
    assert f"ERROR Labels that are not in the classes, in 2 rows: 2 ({line} 12: label 'fox' is not in the " in out
    assert f"{line} 13: label 'ox' is not in the classes). Correct them, or add them to --classes." in out
    assert "10 photos, 2 classes" in out


def test_impossible_boxes_of_coco_are_warnings(tmp_path, capsys):
    make_folder(tmp_path, [])
    images = [{"id": i, "file_name": f"{i}.png", "height": 60, "width": 80} for i in range(12)]
    boxes = [{"image_id": i, "category_id": i % 2, "bbox": [1, 1, -5 if i < 7 else 9, 9]} for i in range(12)]
    content = {"images": images, "annotations": boxes, "categories": [{"id": k, "name": n} for k, n in enumerate("ab")]}
    (tmp_path / "coco.json").write_text(json.dumps(content))
    assert main(["check", str(tmp_path / "coco.json"), "--images", str(tmp_path / "photos")]) == 0
    out = capsys.readouterr().out
    assert re.search(r"WARNING .*boxes.*: 7 \(annotations\[0\] \(0.png\): .*; and 2 more\)\. Correct the ann", out)
    assert "12 photos, 2 classes, 12 tags" in out and "0 errors, 1 warning" in out


def test_annotations_of_voc_that_cannot_be_read(tmp_path, capsys):
    make_folder(tmp_path, [])
    folder = tmp_path / "Annotations"
    folder.mkdir()
    for i in range(12):
        name = f"<object><name>{'ab'[i % 2]}</name><difficult>0</difficult></object>"
        text = f"<annotation><filename>{i}.png</filename>{name}</annotation>"
        (folder / f"{i:02d}.xml").write_text(text[: 50 if i < 2 else None])
    assert main(["check", str(folder), "--images", str(tmp_path / "photos")]) == 1
    out = capsys.readouterr().out
    assert "ERROR Annotations that cannot be read: 2 (" in out and "00.xml" in out and "01.xml" in out
    assert "10 photos, 2 classes, 10 tags" in out


def test_wrong_arguments(tmp_path, capsys):
    assert main(["check", str(tmp_path / "no.csv")]) == 2
    assert capsys.readouterr().err == f"wsd check: error: {tmp_path}/no.csv is missing: {HINT}\n"
    make_folder(tmp_path, GOOD)
    assert main(["check", str(tmp_path / "tags.csv"), "--images", "nowhere"]) == 2
    assert "--images nowhere is not a folder: give the folder of the photos" in capsys.readouterr().err
    assert main(["check", str(tmp_path / "tags.csv"), "--out", str(tmp_path)]) == 2
    printed = capsys.readouterr()
    assert "is a folder, and a file is to be written there" in printed.err and not printed.out  # before any photo


HINT = "give the path of a file of photos and tags (docs/tags.md)"


def check_html(text):
    """Check that elements are closed in order."""
    void = {"meta", "img", "br"}
    stack = []

    class Checker(HTMLParser):
        def handle_starttag(self, tag, attributes):
            if tag not in void:
                stack.append(tag)

        def handle_endtag(self, tag):
            assert stack.pop() == tag

    Checker().feed(text)
    assert stack == []


def test_a_file_for_each_split(tmp_path, capsys):
    """As wsd train takes them: the split of each row is that of its file."""
    make_folder(tmp_path, [])
    words = []
    for start, split in enumerate(("train", "val", "test")):
        rows = [f"{i}.png,{'sun' if i % 2 else 'sea'}" for i in range(4 * start, 4 * start + 4)]
        (tmp_path / f"{split}.csv").write_text("\n".join(["file,labels", *rows, ""]))
        words.append(f"{split}={tmp_path / split}.csv")
    options = ["--images", str(tmp_path / "photos")]
    assert main(["check", *words, *options, "--out", str(tmp_path / "out.html")]) == 0
    assert "12 photos, 2 classes, 12 tags" in capsys.readouterr().out
    assert "train.csv: photos and tags" in (tmp_path / "out.html").read_text()
    assert main(["check", *words[:2], *options]) == 1
    assert "The given split has no photo for test" in capsys.readouterr().out
    form = "give one file of tags, or train=FILE val=FILE test=FILE"
    for wrong, message in ((words[0], "a split is given twice"), ("tags.csv", form), ("test=", f"test=: {form}")):
        assert main(["check", *words, wrong, *options]) == 2
        assert message in capsys.readouterr().err
