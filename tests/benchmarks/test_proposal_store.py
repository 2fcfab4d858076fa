"""The complete benchmark on a few boxes; the measurements themselves are not checked."""

import json
import sys
from pathlib import Path

import pytest
from helpers.benchmarks import load_benchmark

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "proposal_store.md"


@pytest.fixture
def benchmark(monkeypatch):
    """Globals of the benchmark; jobs run in this process, because a fresh one takes seconds to start."""
    names = load_benchmark("proposal_store")["main"].__globals__
    monkeypatch.setitem(names, "in_fresh_process", lambda name, *values: names[name](*json.loads(json.dumps(values))))
    for name, value in {"READS": 20, "ROUNDS": 2, "WORKER_READS": 5}.items():
        monkeypatch.setitem(names, name, value)
    return names


def cells(text):
    """Map the first cell to the others, for all table rows in ``text``."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return {row[0]: row[1:] for row in rows}


def test_rows_equal_the_documents_table(benchmark, monkeypatch, capsys, tmp_path):
    arguments = ["--images", "30", "--boxes", "4", "--folder", str(tmp_path / "files")]
    monkeypatch.setattr(sys, "argv", ["proposal_store.py", *arguments])
    benchmark["main"]()
    printed = capsys.readouterr().out
    assert printed.startswith("30 images x 4 boxes: proposals.pkl 0 MB, proposals.arrow 0 MB; workers start by fork")
    rows, cited = cells(printed), cells(DOCUMENT.read_text().split("`benchmarks/proposal_store.py` generates")[1])
    assert list(rows)[2:] == list(cited)[2:] and len(rows) == 2 + 3 + 2 * 5 + 3
    for name, (none, pickled, store, ratio) in list(rows.items())[2:]:
        assert float(pickled) > 0 and float(store) > 0, name
        assert (none == "") == ("from disk" in name) and ratio.split()[0].endswith("x")
        assert ratio.endswith("(added)") == name.endswith("MB")
    assert not (tmp_path / "files").exists()


def test_job_in_a_fresh_process(tmp_path):
    names = load_benchmark("proposal_store")
    names["write_files"](tmp_path, 30, 4)
    found = names["in_fresh_process"]("measure", "store", str(tmp_path), 30, [], "fork")
    assert found["memory"] == {} and 0 < found["opened"] <= found["ready"] and found["first"] > 0
