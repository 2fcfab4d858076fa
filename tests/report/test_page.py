"""The page as a browser parses it, from folders that the test writes."""

import math
import re
from html.parser import HTMLParser

import pytest
from helpers import run_folders
from PIL import Image

from wsd_distill.report.page import write_report
from wsd_distill.report.tables import Row, Table

VOID = {"meta", "img", "br", "input", "link"}


class Reader(HTMLParser):
    """Checks that elements are nested and closed; keeps texts and attributes."""

    def __init__(self, page):
        super().__init__()
        self.open, self.texts, self.attributes, self.tags = [], [], [], []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style" and data.strip():
            self.texts.append(" ".join(data.split()))


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Two seeds each; the teacher's second run is unfinished, SoftLabels learns no temperatures."""
    folder = tmp_path_factory.mktemp("report")
    for seed, ap in enumerate([60.0, 64.0]):
        run_folders.write_run(folder / f"seed{seed}/student", seed, [50.0, 30.0, math.nan])
        run_folders.write_run(folder / f"seed{seed}/stage2", seed, [ap, 29.0, math.nan], run_folders.learned(seed))
        run_folders.write_run(folder / f"seed{seed}/soft_labels", seed, [50.0, 30.0, math.nan])
    run_folders.write_run(folder / "seed0/teacher", 0, [70.0, 40.0, math.nan])
    run_folders.write_entries(folder / "seed1/teacher", {"iteration": 19, "loss_image": 3.0})
    Image.new("RGB", (4, 4)).save(folder / "scenes.png")
    rows = [
        Row("T-WDet", {"mAP": 78.6}, [{"mAP": 80.0}, {}, {"mAP": 82.0}]),  # the second seed is unfinished
        Row("RLSD <2017>", {"mAP": 68.2}, note="published & alone"),
    ]
    names = {"T-WDet": "teacher", "w/o": "student", "w/": "stage2", "SoftLabels": "soft_labels"}
    path = write_report(
        folder,
        title="Scenes & <digits>",
        tables=[Table("Table 1", "As <published>", ["mAP"], rows, published="COCO")],
        methods={method: [folder / f"seed{seed}" / name for seed in range(2)] for method, name in names.items()},
        plain="w/o",
        distilled="w/",
        figure=folder / "scenes.png",
    )
    return path.read_text(encoding="utf-8")


@pytest.fixture
def texts(page):
    return Reader(page).texts


def test_gains_by_hand(page, texts):
    """cat: +10 and +14; <b>&: -1 twice, but first, because it has 6 images and cat has 4; dog has none."""
    start = texts.index("Gain of each class", texts.index("Results", texts.index("Results") + 1))
    bars = texts[start : texts.index("Figures", start)]
    assert [t for t in bars if re.fullmatch(r"[+-][\d.]+", t)] == ["-1.0", "+12.0"]
    assert [t for t in bars if re.fullmatch(r".+ \(\d+\)", t)] == ["<b>& (6)", "cat (4)"]
    assert "Left out, because no test image has it: dog." in bars
    assert "largest gain cat +12.0, smallest &lt;b&gt;&amp; -1.0; 1 of 2 classes gain." in page


def test_tables_have_published_results_and_ours(texts):
    results = texts[texts.index("Table 1") :]
    assert "As <published>" in results
    row = results[results.index("T-WDet") :]
    assert row[:5] == ["T-WDet", "2 seeds", "81.0 ± 1.4", "difference +2.4", "COCO 78.6"]
    assert row[5:8] == ["RLSD <2017>", "published & alone", "COCO 68.2"]


def test_temperatures_by_hand(page):
    """t^c of cat is 2 and 4, mean 3; of dog 1/2 twice."""
    assert "tᶜ, teacher&#39;s classes from 0.500 (dog) to 3.000 (cat)" in page
    assert "tᵈ, teacher&#39;s proposals ends at 2." in page
    assert page.count("Temperatures of ") == 2 and "Temperatures of SoftLabels" not in page


def test_missing_results_are_listed(texts):
    assert "T-WDet, seed1/teacher: not finished, last logged iteration 19." in texts


def test_length_of_a_run_in_iterations_or_epochs(texts):
    """A saved config has ``max_iter: null`` unless iterations were set."""
    runs = [text for text in texts if text.startswith("·")]
    assert any(text.startswith("· seed 0 · 12 epochs · mAP") for text in runs)
    assert any(text.startswith("· seed 1 · 40 iterations · mAP") for text in runs)


def test_text_is_escaped_and_elements_are_closed(page):
    reader = Reader(page)
    assert not {"b", "i", "digits", "published"} & set(reader.tags)
    assert "Scenes & <digits>" in reader.texts
    assert "train: {seed: 1, max_iter: 40, note: <i>}" in reader.texts
    ids = [value for name, value in reader.attributes if name == "id"]
    assert len(ids) == len(set(ids)) and {"results", "gains", "runs"} < set(ids)
    assert ("name", "viewport") in reader.attributes and reader.tags.count("img") == 1


def test_the_page_loads_nothing(page):
    links = [value for name, value in Reader(page).attributes if name in ("src", "href", "xlink:href")]
    assert links and all(re.match(r"#|data:image/png;base64,", link) for link in links)
    assert not re.search(r"url\((?!#)|@import|<script", page)


def test_charts_take_the_color_of_the_page(page):
    assert "prefers-color-scheme: dark" in page
    assert "fill: currentColor" in page and "stroke: currentColor" in page and "#010203" not in page


def test_ticks_are_plain_numbers(page, texts):
    """The losses of S-Cls are between 0.5 and 3, on a logarithmic scale."""
    losses = texts[texts.index("Losses of w/o") :]
    assert "mathdefault" not in page and {"0.5", "1", "2"} < set(losses[: losses.index("iteration") + 8])


def test_a_page_without_results(tmp_path):
    methods = {"w/o": [tmp_path / "seed0/student"], "w/": [tmp_path / "seed0/stage2"]}
    path = write_report(
        tmp_path / "new" / "report",
        title="None yet",
        tables=[],
        methods=methods,
        plain="w/o",
        distilled="w/",
        figure=tmp_path / "absent.png",
    )
    texts = Reader(path.read_text(encoding="utf-8")).texts
    assert "w/, seed0/stage2: not finished, nothing logged yet." in texts
    assert "The figure absent.png is not drawn yet." in texts and "There is no figure yet." in texts
    assert "Per-class gains need a seed with both runs finished: there is none yet." in texts
    assert "No finished run has learned temperatures." in texts and "There is no table yet." in texts
