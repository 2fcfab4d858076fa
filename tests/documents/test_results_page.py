"""The bar chart of README.md: its data equal docs/results.md, and it can be drawn."""

import json
import re
import runpy

from helpers.documents import ROOT

RESULTS = json.loads((ROOT / "docs" / "results" / "voc5.json").read_text())
ROWS = {  # name in the chart -> rows of the tables
    "T-WDet, the teacher": "T-WDet",
    "Soft labels": "Distillation [12]",
    "Attention transfer + soft labels": "Attention transfer [42]",
    "Both stages, cross-entropy for Eq. 5": "RoI-aware + Class-aware, cross-entropy for Eq. 5 †",
    "Class-aware distillation alone": "+ Class-aware distillation",
    "Both stages (the paper's method)": "S-Cls (w/)",
    "FitNets": "FitNets [23]",
    "No distillation, epochs of both stages": "S-Cls (w/o), epochs of both stages †",
}


def test_data_equal_the_tables():
    text = (ROOT / "docs" / "results.md").read_text()
    assert [method["name"] for method in RESULTS["methods"]] == list(ROWS)
    for method in RESULTS["methods"]:
        cell = "{:.1f} ± {:.1f} ({:+.1f} ± {:.1f})".format(*method["mAP"], *method["gain"])
        assert re.search(rf"^\| {re.escape(ROWS[method['name']])} \|.*{re.escape(cell)}", text, flags=re.M), method


def test_the_chart_is_drawn(tmp_path):
    draw = runpy.run_path(str(ROOT / "docs" / "draw_results.py"))["draw"]
    draw(RESULTS, tmp_path / "voc5.svg")
    assert (tmp_path / "voc5.svg").read_text().lstrip().startswith("<?xml")
    assert (ROOT / "docs" / "results" / "voc5.svg").is_file()
