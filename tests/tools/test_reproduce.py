"""The order in which reproduce.py starts its runs; what it trains is tested in test_train_net.py."""

import wsd_distill  # noqa: F401  (first: it mends Detectron2 0.6 on a current PyTorch)

# isort: split
import importlib.util
import sys
import threading
from pathlib import Path

import pytest

PATH = Path(__file__).parents[2] / "tools" / "reproduce.py"


@pytest.fixture
def reproduce(monkeypatch):
    spec = importlib.util.spec_from_file_location("reproduce", PATH)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "reproduce", module)  # dataclasses look for it there
    spec.loader.exec_module(module)
    return module


class Trainings:
    """Stands in for ``train``: notes what is at work when, and that what it needs is there."""

    def __init__(self, fails=""):
        self.started, self.at_once, self.fails = [], 0, fails
        self._active, self._lock = 0, threading.Lock()

    def __call__(self, run, threads):
        assert all(needed.done for needed in run.needs)
        with self._lock:
            self.started.append(run.name)
            self._active += 1
            self.at_once = max(self.at_once, self._active)
        if run.name == self.fails:
            raise SystemExit(f"{run.name} failed")
        run.output.mkdir(parents=True)
        (run.output / "results.json").write_text("{}")
        with self._lock:
            self._active -= 1


@pytest.mark.parametrize("jobs", [1, 2, 4])
def test_each_run_starts_once_and_after_what_it_needs(reproduce, monkeypatch, tmp_path, jobs):
    monkeypatch.setattr(reproduce, "train", trainings := Trainings())
    runs = [run for seed in range(2) for run in reproduce.plan("digit_scenes", seed, tmp_path)]
    reproduce.train_all(runs, jobs)
    names = ["stage1", "stage2", "student", "student_long", "teacher"]
    assert sorted(trainings.started) == sorted(2 * names)
    assert all(run.done for run in runs) and trainings.at_once <= jobs


def test_what_is_done_is_not_trained_again(reproduce, monkeypatch, tmp_path):
    runs = reproduce.plan("digit_scenes", 0, tmp_path)
    for run in runs[:2]:
        run.output.mkdir(parents=True)
        (run.output / "results.json").write_text("{}")
    monkeypatch.setattr(reproduce, "train", trainings := Trainings())
    reproduce.train_all(runs, 2)
    assert [run.name for run in runs[:2]] == ["teacher", "student"]
    assert sorted(trainings.started) == ["stage1", "stage2", "student_long"]


def test_a_failed_run_stops_those_that_need_it(reproduce, monkeypatch, tmp_path):
    monkeypatch.setattr(reproduce, "train", trainings := Trainings(fails="teacher"))
    with pytest.raises(SystemExit, match="teacher failed"):
        reproduce.train_all(reproduce.plan("digit_scenes", 0, tmp_path), 1)
    assert trainings.started == ["teacher"]


def test_equal_epochs_and_the_epochs_of_both_stages(reproduce, tmp_path):
    """S-Cls (w/o) has the 12 epochs of stage 2, and in a row of its own the 8 + 12 of both; 3,000 scenes / 16."""
    overrides = {run.name: run.overrides for run in reproduce.plan("digit_scenes", 0, tmp_path)}
    assert "train.max_iter=2250" in overrides["student"] and "train.max_iter=3750" in overrides["student_long"]
