"""Suspects with their boxes and scores, their CSV and their page."""

import csv
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from wsd_distill.audit.held_out import HeldOut
from wsd_distill.audit.page import write_page
from wsd_distill.audit.suspects import COLUMNS, find_suspects, write_suspects

CLASSES = ["cat", "<dog>"]
NAMES = ['a, "b".png', "c.png", "d.png", "e.png", *(f"right{i}.png" for i in range(12))]  # the last have right labels


class Tagger:
    """Gives each photo the mean of its pixels as both probabilities."""

    classes = CLASSES

    def read(self, file):
        return np.asarray(Image.open(file))

    def probabilities(self, pixels):
        return np.repeat(pixels.mean((1, 2, 3))[:, None] / 255, 2, axis=1)


@pytest.fixture
def found(tmp_path):
    for i, name in enumerate(NAMES):
        Image.new("RGB", (80, 40), (min(51 * i, 255),) * 3).save(tmp_path / name)
    boxes = np.full((len(NAMES), 2, 4), np.nan, np.float32)
    boxes[0, 0] = 8, 10, 48, 30
    right = np.repeat(np.eye(2, dtype=np.int8), 6, axis=0)
    scores = np.array([[0.98, 0.01], [0.9, 0.02], [0.1, 0.9], [0.05, 0.01], *(0.1 + 0.8 * right)], np.float32)
    labels = np.array([[0, 0], [1, -1], [0, 1], [0, 1], *right], np.int8)
    return HeldOut(NAMES, ["train", "train", "val", "test", *["train"] * 12], CLASSES, labels, scores, boxes)


def test_suspects(found, tmp_path):
    suspects = find_suspects(found, tmp_path, Tagger(), 2)
    wrong, missing = sorted(suspects, key=lambda x: x.file, reverse=True)
    assert (missing.file, missing.label, missing.is_present, missing.split) == (NAMES[0], "cat", False, "train")
    assert missing.box == (8, 10, 48, 30) and missing.tags == [] and missing.tagger == 0
    assert (wrong.file, wrong.label, wrong.is_present, wrong.box) == ("e.png", "<dog>", True, None)
    assert wrong.tags == ["<dog>"] and wrong.tagger == pytest.approx(0.6)
    write_suspects(tmp_path / "out.csv", suspects)
    with open(tmp_path / "out.csv", newline="") as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    assert tuple(rows[NAMES[0]]) == COLUMNS
    assert [rows[NAMES[0]][key] for key in ("tag", "decision", "x1", "y2")] == ["absent", "", "8.0", "30.0"]
    assert rows["e.png"]["tag"] == "present" and rows["e.png"]["x1"] == ""


def test_a_tagger_of_other_classes_is_an_error(found, tmp_path):
    tagger = Tagger()
    tagger.classes = ["cat", "cow"]
    with pytest.raises(ValueError, match="has other classes than the photos"):
        find_suspects(found, tmp_path, tagger, 2)


class Page(HTMLParser):
    """Collects the tags of a page with their attributes."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


def test_page(found, tmp_path):
    suspects = find_suspects(found, tmp_path, Tagger(), 3)
    write_page(tmp_path / "out.html", "pets", suspects, tmp_path, 4, "A note.")
    text = (tmp_path / "out.html").read_text()
    tags = Page(text).found
    cards = [x for name, x in tags if name == "article"]
    assert [(x["data-file"], x["data-label"]) for x in cards] == [(x.file, x.label) for x in suspects]
    decisions = [x["data-decision"] for name, x in tags if name == "button" and "data-decision" in x]
    assert decisions == [y for x in suspects for y in ("remove" if x.is_present else "add", "keep", "unknown")]
    frames = [x["style"] for name, x in tags if name == "span" and "style" in x]
    assert frames == ["left: 10.00%; top: 25.00%; width: 50.00%; height: 50.00%"]
    sources = [x["src"] for name, x in tags if "src" in x]
    assert len(sources) == 3 and all(x.startswith("data:image/jpeg;base64,") for x in sources)
    assert not [x for name, x in tags if name in ("link", "script") and ("href" in x or "src" in x)]
    assert "<dog>" not in text and "A note." in text
    (key,) = (x["data-key"] for name, x in tags if name == "main")
    write_page(tmp_path / "out.html", "pets", suspects[:2], tmp_path, 4, "")
    assert key not in (tmp_path / "out.html").read_text()
