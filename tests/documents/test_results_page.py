"""The chart of README.md: its data equal docs/results.md, and it can be drawn."""

import json
import re
import runpy

from helpers.documents import ROOT

RESULTS = json.loads((ROOT / "docs" / "results" / "photos.json").read_text())


def test_data_equal_the_tables():
    text = (ROOT / "docs" / "results.md").read_text()
    for dataset, rows in RESULTS.items():
        start = text.index(f"| {dataset} | test |")
        table = text[start : text.index("\n\n", start)]
        for row in rows:
            cell = "{:.1f} ± {:.1f}".format(*row["mAP"])
            assert re.search(rf"^\| {re.escape(row['name'])}[^|]*\| \**{re.escape(cell)}\** \|", table, flags=re.M), row


def test_the_chart_is_drawn(tmp_path):
    draw = runpy.run_path(str(ROOT / "docs" / "draw_results.py"))["draw"]
    draw(RESULTS, tmp_path / "photos.svg")
    assert (tmp_path / "photos.svg").read_text().lstrip().startswith("<?xml")
    assert (ROOT / "docs" / "results" / "photos.svg").is_file()
