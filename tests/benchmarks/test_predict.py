import runpy
import sys
from pathlib import Path

from helpers.model_folder import write_model_folder
from helpers.running import ENVIRONMENT
from PIL import Image

PATH = str(Path(__file__).parents[2] / "benchmarks" / "predict.py")


def test_a_table_of_rates_is_printed(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PYTHONPATH", ENVIRONMENT["PYTHONPATH"])
    model = str(write_model_folder(tmp_path / "model"))
    sizes = ["--count", "3", "--rounds", "1", "--batch-sizes", "2", "--workers", "1", "2"]
    monkeypatch.setattr(sys, "argv", [PATH, model, *sizes])
    runpy.run_path(PATH, run_name="__main__")
    first, header, _, *rows = capsys.readouterr().out.splitlines()
    assert first.startswith("cold start, one photo: ") and header.split() == ["batch", "size", "workers", "images/s"]
    assert [row.split()[:2] for row in rows] == [["2", "1"], ["2", "2"]]
    assert all(float(row.split()[2]) > 0 for row in rows)


def test_photos_have_640_x_480_pixels(tmp_path):
    runpy.run_path(PATH)["write_photos"](tmp_path, 10)
    assert [Image.open(path).size for path in sorted(tmp_path.glob("*.jpg"))] == [(640, 480)] * 10
