import time
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.benchmarks import load_benchmark
from PIL import Image


@pytest.fixture
def turns():
    return SimpleNamespace(**load_benchmark("turns"))


def test_calls_take_turns_and_the_first_round_does_not_count(turns, monkeypatch):
    now, order = [0.0], []

    def call(name, seconds):
        order.append(name)
        now[0] += seconds

    for clock in ("process_time", "perf_counter"):
        monkeypatch.setattr(time, clock, lambda: now[0])
    found = turns.measure_in_turns({"a": lambda: call("a", 2.0), "b": lambda: call("b", 0.5)}, 2)
    assert order == ["a", "b"] * 3
    assert found["a"].tolist() == [[2.0, 2.0]] * 2 and found["b"].tolist() == [[0.5, 0.5]] * 2


def test_the_second_call_of_a_turn_counts(turns, monkeypatch):
    now, seconds = [0.0], iter([9.0, 1.0, 8.0, 2.0])
    for clock in ("process_time", "perf_counter"):
        monkeypatch.setattr(time, clock, lambda: now[0])

    def call():
        now[0] += next(seconds)

    assert turns.measure_in_turns({"a": call}, 1, twice=True)["a"].tolist() == [[2.0, 2.0]]


def test_the_ratio_is_the_median_of_ratios_per_round(turns):
    first, second = np.array([[1.0, 8], [6, 8], [4, 8]]), np.array([[1.0, 2], [2, 4], [4, 1]])
    assert turns.median_ratio(first, second).tolist() == [1.0, 4.0]  # of 1, 3, 1 and of 4, 2, 8


def test_the_first_result_is_left_out_of_a_median(turns):
    values = iter([100.0, 3.0, 1.0, 2.0])
    assert turns.median_of(lambda: next(values), 3) == 2.0


def test_photos_have_640_x_480_pixels(turns, tmp_path):
    paths = turns.write_photos(tmp_path, 6)
    assert [Image.open(path).size for path in paths] == [(640, 480)] * 6 and paths == sorted(tmp_path.glob("*.jpg"))
