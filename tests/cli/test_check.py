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


def test_wrong_arguments(tmp_path, capsys):
    assert main(["check", str(tmp_path / "no.csv")]) == 2
    assert capsys.readouterr().err == f"wsd check: error: {tmp_path}/no.csv is missing: {HINT}\n"
    make_folder(tmp_path, GOOD)
    assert main(["check", str(tmp_path / "tags.csv"), "--images", "nowhere"]) == 2
    assert "--images nowhere is not a folder: give the folder of the photos" in capsys.readouterr().err


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
