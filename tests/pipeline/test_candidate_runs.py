"""Candidates in a budget, with small commands instead of trainings."""

import re
import sys
import time

import numpy as np
import pytest

from wsd_distill.pipeline import candidate_runs
from wsd_distill.pipeline.budget import CANDIDATES, TEACHER, Plan
from wsd_distill.pipeline.candidate_runs import CLOCK, count_seconds, list_parts, read_seconds, train_candidates
from wsd_distill.pipeline.scheduler import Run

WORK = """
import pathlib, sys
folder, fails = pathlib.Path(sys.argv[1]), sys.argv[2]
open(folder / "starts", "a").write("x")
if fails: sys.exit(fails)
(folder / "results.json").write_text("{}")
"""
SECONDS = {candidate.title: 100.0 for candidate in CANDIDATES} | {TEACHER: 300.0}
PLAN = Plan(128, 384, 20, CANDIDATES, SECONDS)


@pytest.fixture
def make(tmp_path):
    """A function: training -> error text of those that fail; it returns the targets of all candidates."""

    def make_run(name, fails, *dependencies):
        folder = tmp_path / name
        (folder / "inference" / "val").mkdir(parents=True, exist_ok=True)
        arrays = {"scores": np.eye(2), "labels": np.eye(2, dtype=int), "class_names": ["a", "b"], "image_ids": [0, 1]}
        np.savez(folder / "inference" / "val" / "scores.npz", **arrays)
        command = [sys.executable, "-S", "-c", WORK, str(folder), fails.get(name, "")]
        return Run(f"seed0/{name}", command, folder, [folder / "results.json"], list(dependencies))

    def make(**fails):
        teacher = make_run("teacher", fails)
        others = {"detector": [teacher]}
        return [make_run(c.training, fails, *others.get(c.teacher, [])) for c in CANDIDATES]

    return make


@pytest.fixture
def train(tmp_path):
    """A function: trains the targets; returns titles of the outcomes, (training, reason) left out, and lines."""

    def train(targets, budget=None, check=lambda _: ""):
        lines = []
        found = train_candidates(PLAN, targets, budget, lines.append, check)
        left_out = [(x.candidate.training, x.reason) for x in found.skipped]
        return [x.candidate.training for x in found.outcomes], left_out, lines

    return train


def set_seconds(tmp_path, **seconds):
    for name, value in seconds.items():
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / CLOCK).write_text(str(value))


def test_all_are_trained_without_a_budget(make, train):
    outcomes, left_out, lines = train(make())
    assert outcomes == [candidate.training for candidate in CANDIDATES] and not left_out
    assert re.fullmatch(r"teacher: trained, \d s", lines[2]) and re.search(r": mAP 100.0 on val, \d s", lines[0])


def test_a_teacher_that_fails_is_tried_once_and_said_once(make, train, tmp_path):
    outcomes, left_out, lines = train(make(teacher="no memory"))
    assert outcomes == ["student", "region_consistent_trunk"]
    reason = f"the training of the teacher failed: no memory (log: {tmp_path / 'teacher' / 'stdout.txt'})"
    assert left_out == [(candidate.training, reason) for candidate in CANDIDATES[2:]]
    assert (tmp_path / "teacher" / "starts").read_text() == "x"
    assert sum("no memory" in line for line in lines) == 1
    assert lines[-1] == f"left out, for the same reason: {CANDIDATES[4].title}"


def test_a_weak_teacher_is_checked_once(make, train, tmp_path):
    checked = []

    def check(folder):
        checked.append(folder)
        return "it is no better than random scores"

    outcomes, left_out, _ = train(make(), check=check)
    assert outcomes == ["student", "region_consistent_trunk"] and checked == [tmp_path / "teacher"]
    assert {reason for _, reason in left_out} == {"it is no better than random scores"} and len(left_out) == 3


def test_other_candidates_go_on_after_one_that_fails(make, train):
    outcomes, left_out, _ = train(make(region_consistent="loss is nan"))
    assert outcomes == ["student", "region_consistent_trunk", "soft_labels", "stage2"]
    assert left_out[0][1].startswith("loss is nan (log: ")


def test_plain_that_fails_ends_it(make, train):
    with pytest.raises(RuntimeError, match=r"no memory \(log: .*stdout.txt\): start again with --resume"):
        train(make(student="no memory"))


def test_seconds_before_an_interruption_and_of_failed_runs_count(make, train, tmp_path):
    """250 s went into interrupted and failed runs; the teacher still takes 300 - 50 s, and its student 100 s."""
    set_seconds(tmp_path, region_consistent_trunk=200, teacher=50)
    outcomes, left_out, _ = train(make(), budget=599)
    assert outcomes == ["student", "region_consistent_trunk"] and len(left_out) == 3
    reason = "no time is left: 4 min of 10 min were used, and it takes about 6 min, with its teacher"
    assert left_out[0] == ("region_consistent", reason)
    assert len(train(make(), budget=603)[0]) == len(CANDIDATES)  # the commands take no time


def test_what_is_trained_is_kept_when_the_budget_is_used_up(make, train, tmp_path):
    train(make())
    set_seconds(tmp_path, soft_labels=10000)
    assert len(train(make(), budget=500)[0]) == len(CANDIDATES)


def test_the_clock_of_a_run_adds_up(tmp_path, monkeypatch):
    with pytest.raises(KeyboardInterrupt), count_seconds(tmp_path / "run"):
        time.sleep(0.2)
        raise KeyboardInterrupt
    first = read_seconds(tmp_path / "run")
    monkeypatch.setattr(candidate_runs, "_TICK", 0.05)
    with count_seconds(tmp_path / "run"):
        time.sleep(0.3)
        assert read_seconds(tmp_path / "run") > first  # before its end, as a killed process leaves it
    assert 0.2 <= first < 1 and 0.3 <= read_seconds(tmp_path / "run") - first < 1.5


def test_parts_of_a_candidate(make):
    targets = make()
    assert list(list_parts(CANDIDATES[1], targets[1])) == [CANDIDATES[1].title]
    assert [run.name for run in list_parts(CANDIDATES[4], targets[4]).values()] == ["seed0/teacher", "seed0/stage2"]


def test_damaged_clock_is_named(tmp_path):
    (tmp_path / CLOCK).write_text("12 s")
    with pytest.raises(ValueError, match=rf"{CLOCK} is damaged \(.*12 s.*\): write the seconds"):
        read_seconds(tmp_path)
