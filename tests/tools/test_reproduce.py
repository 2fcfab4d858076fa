"""The command line. Its runs are tested in tests/pipeline, their trainings in test_train_net.py."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
from helpers.builders import own_images
from helpers.recipes import use_recipes

from wsd_distill.pipeline import outputs
from wsd_distill.pipeline.scheduler import find_missing

PATH = Path(__file__).parents[2] / "tools" / "reproduce.py"


@pytest.fixture
def reproduce(monkeypatch, tmp_path, restore_catalogs):
    """A function: run the tool with these arguments. Trainings end at once with 70 mAP, or fail if in ``fail``."""
    spec = importlib.util.spec_from_file_location("reproduce", PATH)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    make_plan = tool.make_plan

    def make_quick_plan(arguments):
        plan, targets = make_plan(arguments)
        results = json.dumps({"test": {"multilabel": {"mAP": 70.0}}})
        for run in find_missing(targets):
            fails = run.name.split("/")[-1] in reproduce.fail
            work = "exit(1)" if fails else f"for p in {[*map(str, run.results)]}: open(p, 'w').write({results!r})"
            run.command = [sys.executable, "-S", "-c", work]
        return plan, targets

    def reproduce(*arguments):
        monkeypatch.setattr(sys, "argv", ["reproduce.py", "--output", str(tmp_path / "out"), *arguments])
        tool.main()

    reproduce.fail = []
    use_recipes(tmp_path, monkeypatch)
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    monkeypatch.setattr(tool, "make_plan", make_quick_plan)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    (tmp_path / "proposals").mkdir()
    return reproduce


TABLE_3 = ("--dataset", "voc5", "--tables", "3", "--seeds", "1", "--jobs", "2")


def test_a_table_is_printed_again_and_other_settings_are_errors(reproduce, tmp_path, capsys):
    reproduce(*TABLE_3)
    printed = capsys.readouterr().out
    assert "| S-Cls (w/) | 74.6 (+3.7) | 70.0 (+0.0) |" in printed
    command = f"python tools/reproduce.py --dataset voc5 --tables 3 --seeds 1 --output {tmp_path}/out\n"
    assert command in (tmp_path / "out/tables.md").read_text()
    reproduce(*TABLE_3, "--print-only")
    assert capsys.readouterr().out == printed
    for more in ([], ["--print-only"]):
        with pytest.raises(SystemExit, match="were made with no --opts: give the same"):
            reproduce(*TABLE_3, *more, "--opts", "train.epochs=7")
        with pytest.raises(SystemExit, match="were made with efficientnet_lite0: give the same"):
            reproduce(*TABLE_3, *more, "--recipe", "small")
    assert (tmp_path / "out/opts.txt").read_text() == ""


def test_a_detector_is_a_setting_of_table_5_only(reproduce):
    mine, other = (["--detector-config", f"{name}.py", "--detector-weights", f"{name}.pth"] for name in ("my", "other"))
    table_5 = ("--dataset", "coco_2014", "--tables", "5", "--seeds", "1")
    reproduce("--dataset", "coco_2014", "--tables", "3", "--seeds", "1")
    reproduce(*table_5, *mine)
    reproduce("--dataset", "coco_2014", "--tables", "3", "--seeds", "1", "--print-only")
    for more in (other, []):
        with pytest.raises(SystemExit, match=r"were made with my\.py my\.pth: give the same, or another --output"):
            reproduce(*table_5, *more, "--print-only")


def test_own_images_and_the_papers_name_of_a_dataset(reproduce, tmp_path, capsys):
    opts = own_images("train.csv")[1:]
    reproduce("--dataset", "pets", "--tables", "3", "--seeds", "1", "--recipe", "small", "--opts", *opts)
    assert (
        f"--dataset pets --recipe small --tables 3 --seeds 1 --output {tmp_path}/out --opts {' '.join(opts)}\n"
        in (tmp_path / "out/tables.md").read_text()
    )
    reproduce("--dataset", "coco_2014", "--output", str(tmp_path / "coco"), "--tables", "3", "--seeds", "1")
    assert "| S-Cls (w/) | 74.6 | 70.0 (-4.6) |" in capsys.readouterr().out


@pytest.mark.parametrize("more", [[], ["--print-only"]])
def test_runs_on_another_dataset_are_neither_shown_nor_continued(reproduce, tmp_path, more):
    run = tmp_path / "out/seed0/teacher"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("dataset: {name: digit_scenes, train: '${dataset.name}_train'}")
    with pytest.raises(
        SystemExit, match="seed0/teacher was trained on digit_scenes_train, not voc5_train: change --out"
    ):
        reproduce(*TABLE_3, *more)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["seed0"]
    (run / "config.yaml").write_text("dataset: {name: voc5, train: voc5_train}")
    reproduce(*TABLE_3, *more)


def test_a_failure_keeps_the_other_rows_and_sets_the_exit_status(reproduce, capsys):
    reproduce.fail = ["stage1"]
    with pytest.raises(SystemExit, match="seed0/stage1 failed: .*\nseed0/stage2 was not started"):
        reproduce(*TABLE_3)
    printed = capsys.readouterr().out
    assert "| T-WDet | 78.6 (+7.7) | 70.0 (+0.0) |" in printed and "| S-Cls (w/) | 74.6 (+3.7) | - |" in printed


def test_errors_of_speed_and_figure_keep_table_and_page(reproduce, tmp_path, monkeypatch, capsys):
    table, page = tmp_path / "out/table.md", tmp_path / "report/index.html"

    def fail(*_):
        assert table.exists() and page.exists()
        raise RuntimeError("no memory\nmore of it")

    monkeypatch.setattr(outputs, "add_speed", fail)
    monkeypatch.setattr(outputs, "draw_comparison", fail)
    with pytest.raises(SystemExit) as left:
        reproduce("--dataset", "voc5", "--seeds", "1", "--report", str(page.parent))
    assert left.value.code.splitlines() == [
        "Images per second were not measured (RuntimeError): no memory",
        "The figure was not drawn (RuntimeError): no memory",
    ]
    assert "| S-Cls (w/) | 70.0 |" in capsys.readouterr().out and "S-Cls (w/)" in page.read_text()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--tables", "5", "--detector-config", "a.py"], "go together"),
        (
            ["--dataset", "coco_2014", "--tables", "5"],
            "give your detector with --detector-config and --detector-weights",
        ),
        (["--dataset", "voc5", "--opts", "train.max_itr=5"], "train.max_itr=5: no config"),
        (["--recipe", "large"], "configs/large/teacher.py does not exist"),
    ],
)
def test_user_errors_are_reported_before_anything_is_written(reproduce, tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit):
        reproduce(*arguments)
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()
    with pytest.raises(SystemExit, match="does not exist: start the runs without --print-only"):
        reproduce("--print-only")
