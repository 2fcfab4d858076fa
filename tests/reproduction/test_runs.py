"""Small commands instead of trainings: what starts when, what a failure stops."""

import os
import sys

import pytest

from wsd_distill.reproduction import runs
from wsd_distill.reproduction.runs import Run, finish, missing

# Notes start and end, and that what it needs is there; "fail" as its last argument makes it fail.
WORK = """
import sys, pathlib
output, journal, needs, fail = sys.argv[1:]
output = pathlib.Path(output)
write = lambda word: open(journal, "a").write(f"{word} {output.name}\\n")
write("start")
assert all(pathlib.Path(need).exists() for need in needs.split())
print("eta: 0:00:01  iter: 4  total_loss: 0.5")
write("end")
if fail: sys.exit("no memory")
(output / "results.json").write_text("{}")
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
    def make(name, *needs, fail=""):
        output = tmp_path / name
        files = " ".join(str(path) for need in needs for path in need.results)
        command = [sys.executable, "-S", "-c", WORK, str(output), str(tmp_path / "journal"), files, fail]
        return Run(name, command, output, [output / "results.json"], list(needs))

    return make


def journal(folder):
    return [line.split() for line in (folder / "journal").read_text().splitlines()]


def most_at_once(folder):
    at_work = [0]
    for word, _ in journal(folder):
        at_work.append(at_work[-1] + (1 if word == "start" else -1))
    return max(at_work)


@pytest.mark.parametrize("jobs", [1, 2])
def test_each_run_starts_once_after_what_it_needs(make, tmp_path, jobs):
    teacher, student = make("teacher"), make("student")
    stage1 = make("stage1", teacher)
    stage2 = make("stage2", teacher, stage1)
    assert finish([stage2, student, stage2], jobs) == ([], [])
    started = sorted(name for word, name in journal(tmp_path) if word == "start")
    assert started == ["stage1", "stage2", "student", "teacher"]
    assert most_at_once(tmp_path) <= jobs
    assert stage1.log.read_text().endswith("\neta: 0:00:01  iter: 4  total_loss: 0.5\n")


def test_two_are_at_work_together(tmp_path):
    """Each waits until the other is there."""
    first, second = tmp_path / "first here", tmp_path / "second here"
    runs = [
        Run(path.name, [sys.executable, "-S", "-c", MEET, str(path), str(other)], tmp_path / f"{path.name} log", [path])
        for path, other in ((first, second), (second, first))
    ]
    assert finish(runs, 2) == ([], [])


def test_what_is_done_is_not_done_again_nor_what_only_it_needed(make, tmp_path):
    teacher = make("teacher")
    stage1 = make("stage1", teacher)
    stage2 = make("stage2", stage1)
    stage1.output.mkdir()
    stage1.results[0].write_text("{}")
    assert [run.name for run in missing([stage2])] == ["stage2"]
    assert finish([stage2], 2) == ([], [])
    assert journal(tmp_path) == [["start", "stage2"], ["end", "stage2"]]


def test_a_failure_stops_those_that_need_it_and_no_other(make, tmp_path, capsys):
    teacher, student = make("teacher", fail="fail"), make("student")
    stage1, later = make("stage1", teacher), make("later", student)
    failed, left_out = finish([stage1, student, later], 1)
    assert (failed, left_out) == ([teacher], [stage1])
    assert [name for word, name in journal(tmp_path) if word == "end"] == ["teacher", "student", "later"]
    assert "no memory" in capsys.readouterr().out and later.done


def test_a_command_that_leaves_no_result_has_failed(tmp_path):
    run = Run("idle", [sys.executable, "-S", "-c", ""], tmp_path / "idle", [tmp_path / "idle" / "results.json"])
    assert finish([run], 1) == ([run], [])


def test_runs_share_the_cores_and_each_has_a_gpu_of_its_own(monkeypatch):
    for variable in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(runs.torch.cuda, "device_count", lambda: 0)
    assert runs.default_jobs() == 4
    environment = runs._environment(place=1, at_work=3)
    assert environment["OMP_NUM_THREADS"] == "2" and "CUDA_VISIBLE_DEVICES" not in environment
    monkeypatch.setattr(runs.torch.cuda, "device_count", lambda: 2)
    assert runs.default_jobs() == 2
    assert [runs._environment(place, 3)["CUDA_VISIBLE_DEVICES"] for place in range(3)] == ["0", "1", "0"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    assert [runs._environment(place, 3)["CUDA_VISIBLE_DEVICES"] for place in range(2)] == ["5", "7"]


@pytest.mark.parametrize("fail", ["", "yes"])
def test_what_has_to_be_checked_is_started_although_it_is_there_and_holds_others_back(make, tmp_path, fail):
    stores = make("stores", fail=fail)
    stores.check = True
    stores.output.mkdir()
    stores.results[0].touch()
    teacher = make("teacher", stores)
    failed, left_out = finish([teacher], jobs=2)
    if fail:
        assert (failed, left_out) == ([stores], [teacher])
        assert journal(tmp_path) == [["start", "stores"], ["end", "stores"]]
        assert missing([teacher]) == [stores, teacher]
    else:
        assert failed == left_out == []
        assert journal(tmp_path) == [[word, name] for name in ("stores", "teacher") for word in ("start", "end")]
        assert missing([teacher]) == []
