import json
import math

import pytest
from helpers import run_folders

from wsd_distill.report.run_results import RunResults


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "seed1" / "stage2"
    run_folders.write_run(folder, 1, [50.0, 20.0, math.nan], run_folders.learned(1))
    return RunResults("S-Cls", folder)


def test_a_finished_run(run):
    assert run.done and run.missing == "" and run.label == "seed1/stage2"
    assert run.metrics == {"AP-cat": 50, "AP-<b>&": 20, "mAP": 35}  # no image has the third class
    assert (run.settings.seed, run.settings.max_iter, run.duration) == (1, 40, "1 day, 0:01:01")
    assert run.scores.class_names == ["cat", "<b>&", "dog"] and run.counts.tolist() == [4, 6, 0]
    assert run.losses == ["total_loss", "loss_hard", "loss_soft"]
    assert run.curve("test/multilabel/mAP") == ([19, 40], [40, 50])
    assert run.temperatures["t_cls"].tolist() == pytest.approx([4, 1, 0.5])
    assert run.temperatures["t_det"].tolist() == pytest.approx([1, 2])


@pytest.mark.parametrize("content", ["{", "[]", '{"test": 3}'])
def test_damaged_results_are_named(run, content):
    (run.folder / "results.json").write_text(content)
    with pytest.raises(ValueError, match=r"results.json is damaged \("):
        assert run.metrics


def test_damaged_lines_of_the_metrics_are_skipped(run):
    before = dict(run.history)
    with open(run.folder / "metrics.json", "a") as file:
        file.write('{"loss": 1}\n[]\n3\n{"iteration": 41, "lo')
    assert RunResults("S-Cls", run.folder).history == before


def test_an_interrupted_training_has_no_duration(run):
    (run.folder / "results.json").unlink()
    assert run.duration == ""


def test_commands_of_all_starts_and_versions_of_the_last(run):
    command = "python tools/train_net.py --config-file configs/x.py --resume"
    assert run.commands == [f"{command} train.seed=1 'train.note=<i>'"]
    assert run.versions == {
        "Python": "3.11.7",
        "PyTorch": "2.14.1",
        "detectron2": "0.6",
        "numpy": "2.4.6",
        "GPU available": "No",
    }
    run_folders.write_log(run.folder, ["model.name='a b'"], gpus=2)
    again = RunResults("S-Cls", run.folder).commands
    assert len(again) == 2 and again[1] == f"{command} --num-gpus 2 'model.name='\"'\"'a b'\"'\"''"


def test_later_entries_replace_earlier_ones_after_a_resume(tmp_path):
    run_folders.write_entries(tmp_path, {"iteration": 9, "loss_hard": 3.0}, {"iteration": 19, "loss_hard": 2.0})
    run_folders.write_entries(tmp_path, {"iteration": 14, "loss_hard": 2.5}, {"iteration": 19, "loss_hard": 1.0})
    with open(tmp_path / "metrics.json", "a") as file:
        file.write('{"iteration": 24, "los')  # killed while writing
    run = RunResults("S-Cls", tmp_path)
    assert run.curve("loss_hard") == ([9, 14, 19], [3.0, 2.5, 1.0])
    assert run.losses == ["loss_hard"]
    assert run.missing.endswith(": not finished, last logged iteration 19.")


def test_a_run_without_files(tmp_path):
    run = RunResults("SoftLabels", tmp_path / "seed0" / "soft_labels")
    assert run.missing == "SoftLabels, seed0/soft_labels: not finished, nothing logged yet."
    assert (run.metrics, run.temperatures, run.scores.class_names, run.commands) == ({}, {}, [], [])


def test_a_run_without_temperatures(tmp_path):
    run_folders.write_run(tmp_path, 0, [50.0, 20.0, math.nan])
    assert RunResults("SoftLabels", tmp_path).temperatures == {}


def test_metrics_of_the_test_split_from_all_tasks(tmp_path):
    test = {"multilabel": {"mAP": 70.0}, "localization": {"CorLoc": 50.0}}
    (tmp_path / "results.json").write_text(json.dumps({"val": {"multilabel": {"mAP": 60.0}}, "test": test}))
    assert RunResults("T-WDet", tmp_path).metrics == {"mAP": 70.0, "CorLoc": 50.0}
    assert RunResults("T-WDet", tmp_path / "unfinished").metrics == {}
