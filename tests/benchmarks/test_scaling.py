"""The jobs at reduced size, and the numbers that are calculated from their times."""

import os

import pyarrow.parquet as pq
import pytest
from helpers.benchmarks import load_benchmark
from helpers.model_folder import write_model_folder
from PIL import Image

from wsd_distill.data.proposal_store import ProposalStore

OPTS = ["image_proposals.proposer.sides=[48]"]


@pytest.fixture(scope="module")
def benchmark():
    return load_benchmark("scaling")


@pytest.fixture
def photos(benchmark, tmp_path):
    (tmp_path / "photos").mkdir()
    paths = [tmp_path / "photos" / f"{i}.png" for i in range(5)]
    for i, path in enumerate(paths):
        Image.new("RGB", (60, 40), (50 * i, 0, 0)).save(path)
    return benchmark["link_photos"](paths, tmp_path / "links")


@pytest.fixture
def cores():
    return (sorted(os.sched_getaffinity(0)) * 2)[:2]


def test_both_shards_predict_all_photos(benchmark, photos, cores, tmp_path):
    model = write_model_folder(tmp_path / "model")
    jobs = benchmark["prediction_jobs"](benchmark["TWO"], photos, tmp_path / "out", model, cores)
    assert benchmark["run_jobs"](jobs) > 0 and [job.cores for job in jobs] == [cores[:1], cores[1:]]
    names = [pq.read_table(tmp_path / "out" / f"shard{i}.parquet")["file"].to_pylist() for i in (0, 1)]
    assert [len(found) for found in names] == [3, 2] and not {*names[0]} & {*names[1]}


def test_shards_make_the_proposals_of_all_photos(benchmark, photos, cores, tmp_path):
    (tmp_path / "out").mkdir()
    jobs = benchmark["proposal_jobs"](benchmark["TWO"], photos, tmp_path / "out", OPTS, cores)
    benchmark["run_jobs"](jobs)
    assert [len(ProposalStore(tmp_path / "out" / f"{split}.arrow")) for split in ("train", "val", "test")] == [5, 2, 2]


@pytest.mark.slow
def test_ray(benchmark, photos, cores, tmp_path, monkeypatch, ray_home):
    pytest.importorskip("ray", reason="Ray is not installed: pip install wsd_distill[cluster]")
    monkeypatch.setenv("HOME", str(ray_home))
    (tmp_path / "out").mkdir()
    way, model = benchmark["RAY"], write_model_folder(tmp_path / "model")
    benchmark["run_jobs"](benchmark["prediction_jobs"](way, photos, tmp_path / "out", model, cores))
    assert pq.read_table(tmp_path / "out" / "tags").num_rows == 5
    (job,) = benchmark["proposal_jobs"](way, photos, tmp_path / "out", OPTS, cores)
    assert job.arguments[-1] == "--ray" and (job.cores, job.cpus) == (cores, 2)  # as tests/proposals/test_ray.py


def test_a_process_that_fails_is_an_error_with_its_last_line(benchmark, tmp_path):
    job = benchmark["Job"](
        ["predict", str(tmp_path / "none"), str(tmp_path / "a.jpg")], sorted(os.sched_getaffinity(0))
    )
    with pytest.raises(RuntimeError, match=r"a\.jpg: wsd predict: error: .*a\.jpg does not exist"):
        benchmark["run_jobs"]([job])


def test_speeds_are_medians_without_the_start_and_the_first_round(benchmark, tmp_path, monkeypatch):
    one, two, Photos = benchmark["ONE"], benchmark["TWO"], benchmark["Photos"]
    seconds = {one: iter([99, 99, 3, 12, 4, 14, 5, 20]), two: iter([99, 99, 4, 9, 4, 9, 4, 9])}
    monkeypatch.setitem(benchmark["measure"].__globals__, "run_jobs", lambda jobs: next(seconds[jobs[0]]))
    few, many, made = Photos(tmp_path, 20), Photos(tmp_path, 120), []

    def make_jobs(way, photos, output):
        made.append((way, photos.count, output.is_dir()))
        return [way]

    speeds = benchmark["measure"](make_jobs, [one, two], few, many, tmp_path / "out", 3)
    assert made == [(way, count, True) for _ in range(4) for way in (one, two) for count in (20, 120)]
    assert speeds == {one: (10, 2), two: (20, 3)}  # 100 photos in 14 - 4 and in 9 - 4 seconds
    assert benchmark["efficiency"](speeds, two) == 1
    seconds.update({one: iter([9, 9, 4, 4])})
    with pytest.raises(RuntimeError, match="120 photos took no longer than 20: set a larger --many"):
        benchmark["measure"](make_jobs, [one], few, many, tmp_path / "again", 1)


def test_the_calculation_for_a_cluster(benchmark):
    one, ray, Speed = benchmark["ONE"], benchmark["RAY"], benchmark["Speed"]
    speeds = {one: Speed(10.0, 2.0), ray: Speed(16.0, 25.0)}  # an efficiency of 0.8
    assert benchmark["cluster_seconds"](speeds, ray, 80_000, 100) == 25 + 80_000 / (100 * 10 * 0.8)
    text = benchmark["cluster_table"]({"predictions": speeds})
    assert text.startswith("A calculation, not a measurement: 10,000,000 photos on 100 nodes x 16 cores.")
    cells = [cell.strip() for cell in text.splitlines()[-1].split("|")[1:-1]]
    assert cells == ["predictions", ray, "0.22"]  # 25 + 1e7 / (1600 * 10 * 0.8) = 806 s
    rows = benchmark["speed_table"]("predictions", speeds).splitlines()[2:]
    assert [cell.strip() for cell in rows[1].split("|")[1:-1]] == [ray, "16", "0.80", "25.0"]
