import argparse

import pytest
import torch
from helpers.benchmarks import load_benchmark


@pytest.fixture(scope="module")
def benchmark():
    return load_benchmark("students")


@pytest.fixture
def options(restore_catalogs):
    sizes = {"batch_size": 2, "rounds": 1, "workers": 0, "batches": 1, "threads": 1}
    return argparse.Namespace(dataset=None, recipe="small", **sizes)


def cells(text):
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]


def test_both_loops_train_the_same_network(benchmark, options, tmp_path, monkeypatch):
    cfg, built = benchmark["load"](options, tmp_path), []
    build = benchmark["build"]

    def keep(*arguments):
        torch.manual_seed(0)
        built.append(build(*arguments))
        return built[-1]

    for make in benchmark["STEPS"].values():
        monkeypatch.setitem(make.__globals__, "build", keep)
        before = len(built)
        step = make(cfg, tmp_path)
        start = [p.detach().clone() for p in built[before].parameters()]
        step()
        assert all(not torch.equal(p, old) for p, old in zip(built[before].parameters(), start))
    ours, bare = built
    assert [p.shape for p in ours.parameters()] == [p.shape for p in bare.parameters()]


def test_table_of_steps(benchmark, options, tmp_path, monkeypatch):
    monkeypatch.setitem(benchmark["compare_steps"].__globals__, "in_fresh_process", lambda name, _: float(len(name)))
    _, _, ours, bare, ratio = cells(benchmark["compare_steps"](options, tmp_path))
    assert [ours[0], bare[0], ratio[0]] == ["S-Cls", "bare loop", "ratio"]
    assert float(ours[1]) / float(bare[1]) == pytest.approx(float(ratio[1]), rel=0.1)
    assert [ours[3], bare[3], ratio[3]] == ["5", "9", "0.556"]


def test_loaders_with_each_augmentation(benchmark, options, tmp_path):
    _, _, *rows = cells(benchmark["compare_loaders"](options, tmp_path))
    assert [row[0] for row in rows] == [*benchmark["AUGMENTATIONS"], "network alone"]
    assert all(float(row[1]) > 0 for row in rows)
