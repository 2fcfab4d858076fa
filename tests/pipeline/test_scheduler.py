"""Scheduling with small commands instead of trainings."""

import os
import sys

import pytest

from wsd_distill.pipeline import scheduler
from wsd_distill.pipeline.scheduler import Run, find_missing, run_missing

# Records its start and end, and checks that its dependencies are done; fails if its last argument is not empty.
WORK = """
import sys, pathlib
folder, journal, dependencies, fail = sys.argv[1:]
folder = pathlib.Path(folder)
write = lambda word: open(journal, "a").write(f"{word} {folder.name}\\n")
write("start")
assert all(pathlib.Path(file).exists() for file in dependencies.split())
print("eta: 0:00:01  iter: 4  total_loss: 0.5")
write("end")
if fail: sys.exit("no memory")
(folder / "results.json").write_text("{}")
"""
MEET = """
import pathlib, sys, time
mine, other = map(pathlib.Path, sys.argv[1:])
mine.touch()
end = time.time() + 20
while not other.exists():
    assert time.time() < end
    time.sleep(0.01)
"""


@pytest.fixture
def make(tmp_path):
    """A function: name and dependencies -> Run."""

    def make(name, *dependencies, fail=""):
        folder = tmp_path / name
        files = " ".join(str(path) for run in dependencies for path in run.results)
        command = [sys.executable, "-S", "-c", WORK, str(folder), str(tmp_path / "journal"), files, fail]
        return Run(name, command, folder, [folder / "results.json"], list(dependencies))

    return make


def journal(folder):
    return [line.split() for line in (folder / "journal").read_text().splitlines()]


def max_active(folder):
    active = [0]
    for word, _ in journal(folder):
        active.append(active[-1] + (1 if word == "start" else -1))
    return max(active)


@pytest.mark.parametrize("jobs", [1, 2])
def test_each_run_starts_once_after_its_dependencies(make, tmp_path, jobs):
    teacher, student = make("teacher"), make("student")
    stage1 = make("stage1", teacher)
    stage2 = make("stage2", teacher, stage1)
    assert run_missing([stage2, student, stage2], jobs) == ([], [])
    started = sorted(name for word, name in journal(tmp_path) if word == "start")
    assert started == ["stage1", "stage2", "student", "teacher"]
    assert max_active(tmp_path) <= jobs
    assert stage1.log.read_text().endswith("\neta: 0:00:01  iter: 4  total_loss: 0.5\n")


def test_two_runs_in_parallel(tmp_path):
    """Each waits until the other has started."""
    first, second = tmp_path / "first here", tmp_path / "second here"
    runs = [
        Run(path.name, [sys.executable, "-S", "-c", MEET, str(path), str(other)], tmp_path / f"{path.name} log", [path])
        for path, other in ((first, second), (second, first))
    ]
    assert run_missing(runs, 2) == ([], [])


def test_done_runs_and_their_dependencies_are_skipped(make, tmp_path):
    teacher = make("teacher")
    stage1 = make("stage1", teacher)
    stage2 = make("stage2", stage1)
    stage1.folder.mkdir()
    stage1.results[0].write_text("{}")
    assert [run.name for run in find_missing([stage2])] == ["stage2"]
    assert run_missing([stage2], 2) == ([], [])
    assert journal(tmp_path) == [["start", "stage2"], ["end", "stage2"]]


def test_a_failure_stops_only_what_depends_on_it(make, tmp_path, capsys):
    teacher, student = make("teacher", fail="fail"), make("student")
    stage1, later = make("stage1", teacher), make("later", student)
    failed, not_started = run_missing([stage1, student, later], 1)
    assert (failed, not_started) == ([teacher], [stage1])
    assert [name for word, name in journal(tmp_path) if word == "end"] == ["teacher", "student", "later"]
    assert "no memory" in capsys.readouterr().out and later.done
    assert "no memory" in teacher.describe_failure()
    assert run_missing([teacher], 1, quiet=True)[0] == [teacher] and not capsys.readouterr().out


@pytest.mark.parametrize(
    "log, expected",
    [
        ("usage: x\ntrain_net.py: error: no photo.\n\n", "no photo."),
        ("one\nMemoryError\n", "MemoryError"),
        ("", "it printed nothing"),
    ],
)
def test_the_cause_of_a_failure_is_the_last_line(tmp_path, log, expected):
    run = Run("idle", [], tmp_path, [])
    run.log.write_text(log)
    assert run.describe_failure() == expected


def test_a_command_without_results_has_failed(tmp_path):
    run = Run("idle", [sys.executable, "-S", "-c", ""], tmp_path / "idle", [tmp_path / "idle" / "results.json"])
    assert run_missing([run], 1) == ([run], [])


def test_runs_share_the_cores_and_each_has_one_gpu(monkeypatch):
    for variable in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(scheduler.torch.cuda, "device_count", lambda: 0)
    assert scheduler.default_jobs() == 4
    environment = scheduler._environment(slot=1, active=3)
    assert environment["OMP_NUM_THREADS"] == "2" and "CUDA_VISIBLE_DEVICES" not in environment
    monkeypatch.setattr(scheduler.torch.cuda, "device_count", lambda: 2)
    assert scheduler.default_jobs() == 2
    assert [scheduler._environment(slot, 3)["CUDA_VISIBLE_DEVICES"] for slot in range(3)] == ["0", "1", "0"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    assert [scheduler._environment(slot, 3)["CUDA_VISIBLE_DEVICES"] for slot in range(2)] == ["5", "7"]


@pytest.mark.parametrize("fail", ["", "yes"])
def test_a_check_is_started_despite_its_results_and_delays_what_depends_on_it(make, tmp_path, fail):
    stores = make("stores", fail=fail)
    stores.check = True
    stores.folder.mkdir()
    stores.results[0].touch()
    teacher = make("teacher", stores)
    failed, not_started = run_missing([teacher], jobs=2)
    if fail:
        assert (failed, not_started) == ([stores], [teacher])
        assert journal(tmp_path) == [["start", "stores"], ["end", "stores"]]
        assert find_missing([teacher]) == [stores, teacher]
    else:
        assert failed == not_started == []
        assert journal(tmp_path) == [[word, name] for name in ("stores", "teacher") for word in ("start", "end")]
        assert find_missing([teacher]) == []
