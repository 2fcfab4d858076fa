import argparse
import json
import sys

import numpy as np
import pytest
from detectron2.data import DatasetCatalog
from helpers.benchmarks import load_benchmark


@pytest.fixture(scope="module")
def benchmark():
    return load_benchmark("pipeline")


def write_dataset(benchmark, folder):
    """Write 8 training photos and 2 for each other split; return the overrides that name them."""
    paths = sys.modules["turns"].write_photos(folder, 8)
    opts = [f'dataset.image_root="{folder}"', "train.student_size=32", "train.teacher_size=64", "train.batch_size=2"]
    for split, count in (("train", 8), ("val", 2), ("test", 2)):
        file = folder / f"{split}.json"
        entries = [{"file": path.name, "labels": [["cat", "dog"][i % 2]]} for i, path in enumerate(paths[:count])]
        file.write_text(json.dumps(entries))
        opts.append(f'dataset.files.{split}="{file}"')
    return [*opts, "image_proposals.proposer.sides=[64]", "proposals.num_proposals=4"]


def test_every_stage_is_measured_and_counted(benchmark, tmp_path, restore_catalogs):
    opts = write_dataset(benchmark, tmp_path)
    options = argparse.Namespace(
        dataset="mine", recipe="efficientnet_lite0", photos=4, rounds=1, threads=1, opts=[*opts, "train.epochs=3"]
    )
    before = set(DatasetCatalog.list())
    seconds, counts = benchmark["measure"](options)
    assert list(seconds) == list(benchmark["STAGES"]) and all((value > 0).all() for value in seconds.values())
    epochs = dict.fromkeys(("teacher", "student", "region_consistent", "region_consistent_trunk"), 8 * 3)
    passes = {"region_consistent, cache": 8, "region_consistent_trunk, cache": 8}
    assert counts == {"proposals": 8 + 2 + 2, **epochs, **passes}
    assert benchmark["SUBSET"] not in set(DatasetCatalog.list()) - before
    table = benchmark["stage_table"](seconds, counts)
    assert len(table.splitlines()) == 2 + len(seconds)


def test_ratios_are_those_of_sums_over_stages(benchmark):
    stages = list(benchmark["STAGES"])
    seconds = {stage: np.array([i + 1.0, 2.0]) for i, stage in enumerate(stages)}
    counts = dict.fromkeys(stages, 10)
    # CPU: proposals 1, T-WDet 2, its pass 3, the trunk's pass 4, plain 5, from T-WDet's map 6, from the trunk's 7
    rows = [line.split("|")[1:-1] for line in benchmark["ratio_table"](seconds, counts).splitlines()[2:]]
    cells = [[cell.strip() for cell in row] for row in rows]
    assert [row[:3] for row in cells] == [
        ["plain", "1.00", "1.00"],
        ["T-WDet", "2.40", "4.00"],  # 12 / 5, 8 / 2
        ["untrained trunk", "2.20", "2.00"],  # 11 / 5, 4 / 2
    ]
    assert cells[1][3].startswith("student, T-WDet's map 50 %, teacher's pass 25 %")


def test_logged_steps_are_added_up(benchmark, tmp_path):
    folder = tmp_path / "student"
    folder.mkdir()
    entries = [{"iteration": 19, "time": 0.5}, {"iteration": 39, "time": 0.25}, {"iteration": 39, "mAP": 1.0}]
    (folder / "metrics.json").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    assert benchmark["read_seconds"](folder) == 20 * 0.5 + 20 * 0.25
    assert "plain student" in benchmark["full_table"](tmp_path) and "0.2" in benchmark["full_table"](tmp_path)


def test_folders_without_trainings_are_errors(benchmark, tmp_path):
    with pytest.raises(FileNotFoundError, match="has none of teacher, student"):
        benchmark["full_table"](tmp_path)
    with pytest.raises(FileNotFoundError, match="has no metrics.json"):
        benchmark["read_seconds"](tmp_path)
