import argparse
import itertools
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from helpers.benchmarks import BENCHMARKS, load_benchmark


@pytest.fixture(scope="module")
def benchmark():
    return load_benchmark("gpu")


@pytest.fixture
def options(benchmark, tmp_path, restore_catalogs):
    """Reduced sizes, VGG16 only; the dataset "noise" is registered and the report is open."""
    options = argparse.Namespace(**benchmark["REDUCED"], networks=["vgg16"], folder=tmp_path, opts=[])
    benchmark["make_noise_dataset"](options)
    with open(tmp_path / "report.md", "w") as options.report:
        yield options


def table(text):
    """Cells of the Markdown table in a report."""
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]


@pytest.mark.skipif(torch.cuda.is_available(), reason="expects the rows of a CPU")
def test_steps_and_inference_on_the_cpu(benchmark, options):
    rows = [row for part in ("steps", "inference") for row in benchmark["PARTS"][part][1](options, float("inf"))]
    names = ["T-WDet", "S-Cls", "stage 1", "stage 2", "S-Cls", "T-WDet"]
    assert [row[:3] for row in rows] == [[f"vgg16 {name}", "float32", 2] for name in names]
    for _, _, _, ms, rate, memory in rows:
        assert float(ms) * float(rate) == pytest.approx(2 * 1000, rel=0.05) and memory == ""


@pytest.mark.parametrize("case", ["teacher", "student", "stage1", "stage2"])
def test_resnet50_has_feature_maps_of_stride_16(benchmark, options, case):
    cfg = benchmark["load"]("resnet50", case, options)
    models = [cfg.model, cfg.distiller.teacher] if "distiller" in cfg else [cfg.model]
    assert [model.in_feature for model in models] == ["res4"] * len(models)
    assert cfg.model._target_.__name__ == ("WSDDN" if case == "teacher" else "MultiLabelClassifier")


def test_cached_losses_differ_by_rounding_only(benchmark, options):
    rows = list(benchmark["compare_losses"](options, float("inf")))
    assert [row[1] for row in rows] == ["loss_roi", "loss_hard", "loss_class_aware"]
    for _, name, exact, online, cached, difference in rows:
        assert float(exact) > 0 and float(cached) == pytest.approx(float(online), rel=1e-2)
        assert float(difference) < 1e-2 and (name != "loss_hard") == (float(difference) > 0)  # the labels' is exact
        assert benchmark["AMP"] or exact == online


def test_an_error_of_a_case_is_a_cell(benchmark, options, monkeypatch):
    def fail(*_):
        raise FloatingPointError("loss_image became [nan] at iteration 0.\nLower the learning rate")

    monkeypatch.setitem(benchmark["measure_speed"].__globals__, "time_calls", fail)
    (row,) = benchmark["measure_speed"](["student"], options, float("inf"))
    assert row == ["vgg16 S-Cls", "float32", 2, "FloatingPointError: loss_image became [nan] at iteration 0."]


def test_each_row_is_written_at_once_and_the_limit_ends_a_part(benchmark, options, monkeypatch, capsys):
    seen, now, path = [], [0], options.folder / "report.md"

    def measure(options, deadline):
        for now[0] in itertools.count():
            seen.append(len(table(path.read_text())))
            yield [now[0], "x"]

    monkeypatch.setitem(benchmark["PARTS"], "steps", (["row", "value"], measure))
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    benchmark["run_part"]("steps", 2.0, options)
    text = path.read_text()
    assert table(text) == [["row", "value"], ["---", "---"], ["0", "x"], ["1", "x"], ["2", "x"]]
    assert seen == [2, 3, 4] and text.endswith("Stopped: time limit.\n") and capsys.readouterr().out == text
    benchmark["run_part"]("steps", 2.0, options)
    assert path.read_text() == text + "\n## steps\n\n| row | value |\n| --- | --- |\n\nStopped: time limit.\n"
    assert len(seen) == 3  # nothing is measured once the time is used up


def test_an_error_ends_its_part_only(benchmark, options, monkeypatch, capsys):
    def measure(options, deadline):
        yield ["first"]
        raise ValueError("no store")

    monkeypatch.setitem(benchmark["PARTS"], "steps", (["row"], measure))
    benchmark["run_part"]("steps", float("inf"), options)
    assert (options.folder / "report.md").read_text().endswith("| first |\n\nValueError: no store\n")
    assert "Traceback" in capsys.readouterr().err


def test_trainings_on_photos(benchmark, options, monkeypatch):
    started = []

    def train(command, *, timeout, **_):
        overrides = dict(argument.split("=", 1) for argument in command[5:])
        folder = Path(overrides["train.output_dir"].strip('"'))
        folder.mkdir(parents=True)
        results = {"multilabel": {"mAP": 41.26}, "localization": {"CorLoc": 30.0, "AP50": None}}
        (folder / "results.json").write_text(json.dumps({"test": results} if folder.name == "teacher" else {}))
        (folder / "metrics.json").write_text('{"iteration": 19, "time": 0.25}\n')
        started.append((Path(command[3]).name, overrides, timeout))

    monkeypatch.setattr(subprocess, "run", train)
    vars(options).update(photos="coco3k", runs=options.folder / "runs", opts=["train.epochs=1"])
    rows = list(benchmark["train_on_photos"](options, time.monotonic() + 60))
    assert [row[:5] for row in rows] == [
        ["T-WDet", "41.3", "30.0", "", "250.0"],
        *([name, "", "", "", "250.0"] for name in ("S-Cls", "stage 1", "stage 2")),
    ]
    assert [file for file, *_ in started] == ["teacher.py", "student.py", "stage1.py", "stage2.py"]
    for file, overrides, timeout in started:
        assert overrides["dataset.name"] == "coco3k" and overrides["train.epochs"] == "1" and 0 < timeout <= 60
        assert overrides["dataloader.train.mapper.sizes"] == ("[64]" if file == "teacher.py" else "[32]")
        teacher_sizes = overrides.get("dataloader.train.mapper.teacher_sizes")
        assert teacher_sizes == ("[64]" if file.startswith("stage") else None)


def test_the_command_writes_a_report(benchmark, tmp_path):
    output = tmp_path / "report.md"
    command = [sys.executable, BENCHMARKS / "gpu.py", "--reduced", "--output", output, "--minutes", "0"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    text = output.read_text()
    assert done.stdout == text and text.count("Stopped: time limit.") == 3
    assert [line for line in text.splitlines() if line.startswith("#")] == ["## steps", "## inference", "## losses"]
