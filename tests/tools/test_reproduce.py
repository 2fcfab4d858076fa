"""The command line; what it starts is tested in tests/reproduction, what that trains in test_train_net.py."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

import wsd_distill.data.datasets  # noqa: F401  (what it registers is there before ``forget`` looks)

PATH = Path(__file__).parents[2] / "tools" / "reproduce.py"


@pytest.fixture
def reproduce(monkeypatch, tmp_path, restore_catalogs):
    """A function: arguments of the tool; every training ends at once, with 70 mAP or, where it is to fail, without."""
    spec = importlib.util.spec_from_file_location("reproduce", PATH)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    planned = tool.plan

    def plan(arguments):
        matrix, goals = planned(arguments)
        results = json.dumps({"test": {"multilabel": {"mAP": 70.0}}})
        for name, run in matrix._runs.items():
            fails = name.split("/")[-1] in reproduce.fail
            work = "exit(1)" if fails else f"for p in {[*map(str, run.results)]}: open(p, 'w').write({results!r})"
            run.command = [sys.executable, "-S", "-c", work]
        return matrix, goals

    def reproduce(*arguments):
        monkeypatch.setattr(sys, "argv", ["reproduce.py", "--output", str(tmp_path / "out"), *arguments])
        tool.main()

    reproduce.fail, reproduce.tool = [], tool
    monkeypatch.setattr(tool, "plan", plan)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    (tmp_path / "proposals").mkdir()
    return reproduce


TABLE_3 = ("--dataset", "voc5", "--tables", "3", "--seeds", "1", "--jobs", "2")


def test_a_table_is_printed_again_and_others_overrides_are_refused(reproduce, tmp_path, capsys):
    reproduce(*TABLE_3)
    printed = capsys.readouterr().out
    assert "| S-Cls (w/) | 74.6 (+3.7) | 70.0 (+0.0) |" in printed
    command = f"python tools/reproduce.py --dataset voc5 --tables 3 --seeds 1 --output {tmp_path}/out\n"
    assert command in (tmp_path / "out/tables.md").read_text()
    reproduce(*TABLE_3, "--print-only")
    assert capsys.readouterr().out == printed
    for more in ([], ["--print-only"]):
        with pytest.raises(SystemExit, match="were made with no --opts: give the same"):
            reproduce(*TABLE_3, *more, "--opts", "train.max_iter=7")
    assert (tmp_path / "out/opts.txt").read_text() == ""


def test_a_detector_is_that_of_table_5_alone(reproduce):
    mine, other = (["--detector-config", f"{name}.py", "--detector-weights", f"{name}.pth"] for name in ("my", "other"))
    table_5 = ("--dataset", "coco", "--tables", "5", "--seeds", "1")
    reproduce("--dataset", "coco", "--tables", "3", "--seeds", "1")
    reproduce(*table_5, *mine)
    reproduce("--dataset", "coco", "--tables", "3", "--seeds", "1", "--print-only")
    for more in (other, []):
        with pytest.raises(SystemExit, match=r"were made with my\.py my\.pth: give the same, or another --output"):
            reproduce(*table_5, *more, "--print-only")


@pytest.mark.parametrize("more", [[], ["--print-only"]])
def test_runs_of_another_data_set_are_neither_shown_nor_gone_on_with(reproduce, tmp_path, more):
    run = tmp_path / "out/seed0/teacher"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("dataset: {name: digit_scenes, train: '${dataset.name}_train'}")
    with pytest.raises(SystemExit, match="seed0/teacher is of digit_scenes_train, not of voc5_train: give another"):
        reproduce(*TABLE_3, *more)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["seed0"]
    (run / "config.yaml").write_text("dataset: {name: voc5, train: voc5_train}")
    reproduce(*TABLE_3, *more)


def test_after_a_failure_there_are_the_others_rows_and_an_exit_status(reproduce, capsys):
    reproduce.fail = ["stage1"]
    with pytest.raises(SystemExit, match="seed0/stage1 failed: .*\nseed0/stage2 was not started"):
        reproduce(*TABLE_3)
    printed = capsys.readouterr().out
    assert "| T-WDet | 78.6 (+7.7) | 70.0 (+0.0) |" in printed and "| S-Cls (w/) | 74.6 (+3.7) | - |" in printed


def test_speed_and_picture_that_fail_cost_neither_table_nor_page(reproduce, tmp_path, monkeypatch, capsys):
    table, page = tmp_path / "out/table.md", tmp_path / "report/index.html"

    def fail(*_):
        assert table.exists() and page.exists()
        raise RuntimeError("no memory\nmore of it")

    monkeypatch.setattr(reproduce.tool, "add_speed", fail)
    monkeypatch.setattr(reproduce.tool, "draw_comparison", fail)
    with pytest.raises(SystemExit) as left:
        reproduce("--dataset", "voc5", "--seeds", "1", "--report", str(page.parent))
    assert left.value.code.splitlines() == [
        "Images a second were not measured (RuntimeError): no memory",
        "The picture was not drawn (RuntimeError): no memory",
    ]
    assert "| S-Cls (w/) | 70.0 |" in capsys.readouterr().out and "S-Cls (w/)" in page.read_text()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--tables", "5", "--detector-config", "a.py"], "go together"),
        (["--dataset", "coco", "--tables", "5"], "give yours with --detector-config and --detector-weights"),
        (["--dataset", "voc5", "--opts", "train.max_itr=5"], "--opts train.max_itr=5: no config"),
        (["--dataset", "image_list"], "dataset.name"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(reproduce, tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit):
        reproduce(*arguments)
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()
    with pytest.raises(SystemExit, match="is not there"):
        reproduce("--print-only")
