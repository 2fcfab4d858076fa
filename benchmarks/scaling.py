#!/usr/bin/env python
"""Measure how predictions and proposals scale over processes and Ray, and calculate from it the time of a cluster.

    python benchmarks/scaling.py
    python benchmarks/scaling.py --images photos/ --many 2000 --rounds 3

Each way runs the command of a user on few and on many photos, in processes of their own: one process on one core, two
processes at once with a shard each and a core each, and Ray with two actors or tasks on two cores. With t seconds from
the start to the end, photos/s are (many - few) / (t(many) - t(few)), the start-up is t(few) - few / (photos/s), and the
efficiency is the photos/s of two over twice those of one. The last table is a calculation. Needs two cores; without
--images, the photos are those shipped with scikit-image, as JPEGs of 640 x 480.
"""

import wsd_distill  # noqa: F401  (first: it patches Detectron2 0.6 for a current PyTorch)

# isort: split
import argparse
import importlib.util
import itertools
import json
import os
import runpy
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

from inference import CONFIGS, write_model
from tabulate import tabulate
from turns import write_photos

from wsd_distill.predicting.listing import walk_folder

RECIPE = "efficientnet_lite0"
NODES, CORES, PHOTOS = 100, 16, 10_000_000  # of the calculation
PROPOSALS_TOOL = str(CONFIGS.parent / "tools" / "generate_proposals.py")
ONE, TWO, RAY = "one process", "two shards", "Ray, two workers"


class Job(NamedTuple):
    """A process: arguments of ``wsd`` or of a tool, the cores it is pinned to, and the CPUs that Ray gets."""

    arguments: list[str]
    cores: list[int]
    cpus: int = 1


class Speed(NamedTuple):
    """Photos per second, and seconds that do not depend on the number of photos."""

    rate: float
    startup: float


class Photos(NamedTuple):
    """A folder ``all`` with photos, folders ``shard0`` and ``shard1`` with half of them each, and lists of them."""

    folder: Path
    count: int


def link_photos(paths: list[Path], folder: Path) -> Photos:
    """Make the folders of :class:`Photos` from links to photos, and a CSV of them for each split."""
    for name, chosen in (("all", paths), ("shard0", paths[::2]), ("shard1", paths[1::2])):
        (folder / name).mkdir(parents=True)
        for i, path in enumerate(chosen):
            (folder / name / f"{i:06d}{path.suffix}").symlink_to(path.absolute())
    files = sorted(path.name for path in (folder / "all").iterdir())
    for split, chosen in (("train", files), ("val", files[:2]), ("test", files[:2])):
        rows = [f"{file},{'cat' if i % 2 else 'dog'}" for i, file in enumerate(chosen)]
        (folder / f"{split}.csv").write_text("\n".join(["file,labels", *rows, ""]))
    return Photos(folder, len(paths))


def prediction_jobs(way: str, photos: Photos, output: Path, model: Path, cores: list[int]) -> list[Job]:
    """Return the processes that predict all photos."""
    if way == RAY:
        sources = [str(photos.folder / "all"), "--out", str(output / "tags"), "--ray"]
        return [Job(["predict", str(model), *sources], cores, cpus=3)]  # one is left for reading
    folders = ["all"] if way == ONE else ["shard0", "shard1"]
    return [
        Job(["predict", str(model), str(photos.folder / name), "--out", str(output / f"{name}.parquet")], [core])
        for name, core in zip(folders, cores)
    ]


def proposal_jobs(way: str, photos: Photos, output: Path, opts: list[str], cores: list[int]) -> list[Job]:
    """Return the processes that make the proposals of all photos, and of two for each other split."""
    arguments = [PROPOSALS_TOOL, "--config-file", str(CONFIGS / RECIPE / "teacher.py"), "dataset.name=scaling"]
    arguments += [f'dataset.image_root="{photos.folder / "all"}"']
    for split in ("train", "val", "test"):
        arguments += [f'dataset.files.{split}="{photos.folder / split}.csv"']
        arguments += [f'proposals.{split}="{output / split}.arrow"']
    arguments += opts
    if way == RAY:
        return [Job([*arguments, "--ray"], cores, cpus=2)]
    shards = ["1/1"] if way == ONE else ["1/2", "2/2"]
    return [Job([*arguments, "--num-workers", "0", "--shard", s], [core]) for s, core in zip(shards, cores)]


def run_jobs(jobs: list[Job]) -> float:
    """Run processes at once; return the seconds until the last one ends.

    Raises:
        RuntimeError: a process failed; has its last line.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+") as errors:
        commands = [[sys.executable, "-W", "ignore", __file__, "--job", json.dumps(job)] for job in jobs]
        options = {"env": environment, "stdout": subprocess.DEVNULL, "stderr": errors}
        running = [subprocess.Popen(command, **options) for command in commands]
        codes = [process.wait() for process in running]
        seconds = time.perf_counter() - started
        if any(codes):
            errors.seek(0)
            lines = errors.read().splitlines() or [f"exit codes {codes}"]
            raise RuntimeError(f"{' '.join(jobs[0].arguments)}: {lines[-1]}")
    return seconds


def run_job(job: Job) -> None:
    """Be the process of a job: a fresh one."""
    os.sched_setaffinity(0, job.cores)
    os.cpu_count = lambda: job.cpus  # what a local Ray gets
    if job.arguments[0] == PROPOSALS_TOOL:
        sys.argv = job.arguments
        runpy.run_path(PROPOSALS_TOOL, run_name="__main__")
        return
    from wsd_distill.cli import main as wsd

    raise SystemExit(wsd(job.arguments))


def measure(make_jobs, ways: list[str], few: Photos, many: Photos, folder: Path, rounds: int) -> dict[str, Speed]:
    """Run all ways in turns; return the medians over rounds.

    Args:
        make_jobs: (way, photos, output) -> processes.
        folder: for the outputs; it is created.

    Raises:
        RuntimeError: a process failed, or many photos took no longer than few.
    """
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for turn, way in itertools.product(range(rounds + 1), ways):
        outputs = [folder / f"{turn}_{ways.index(way)}_{photos.count}" for photos in (few, many)]
        for output in outputs:
            output.mkdir(parents=True)
        seconds = [run_jobs(make_jobs(way, photos, out)) for photos, out in zip((few, many), outputs)]
        if turn:  # the first reads files from the disk
            found[way].append((seconds[0], seconds[1]))
    speeds = {}
    for way, times in found.items():
        short, long = (median(column) for column in zip(*times))
        if long <= short:
            raise RuntimeError(f"{way}: {many.count} photos took no longer than {few.count}: set a larger --many")
        speeds[way] = speed_of(few.count, short, many.count, long)
    return speeds


def speed_of(few: int, short: float, many: int, long: float) -> Speed:
    """Return the speed of a way that takes ``short`` and ``long`` seconds for few and many photos."""
    rate = (many - few) / (long - short)
    return Speed(rate, short - few / rate)


def efficiency(speeds: dict[str, Speed], way: str) -> float:
    """Return the photos/s of a way with two workers over twice those of one process."""
    return speeds[way].rate / (2 * speeds[ONE].rate)


def speed_table(kind: str, speeds: dict[str, Speed]) -> str:
    rows = [[way, s.rate, None if way == ONE else efficiency(speeds, way), s.startup] for way, s in speeds.items()]
    headers = [kind, "photos/s", "efficiency", "start-up, s"]
    return tabulate(rows, headers, tablefmt="pipe", floatfmt=("", ".3g", ".2f", ".1f"))


def cluster_seconds(speeds: dict[str, Speed], way: str, photos: int, cores: int) -> float:
    """Calculate start-up + photos / (cores x rate x efficiency), with the rate of one process."""
    return speeds[way].startup + photos / (cores * speeds[ONE].rate * efficiency(speeds, way))


def cluster_table(speeds: dict[str, dict[str, Speed]]) -> str:
    rows = [
        [kind, way, cluster_seconds(found, way, PHOTOS, NODES * CORES) / 3600]
        for kind, found in speeds.items()
        for way in found
        if way != ONE
    ]
    title = f"A calculation, not a measurement: {PHOTOS:,} photos on {NODES} nodes x {CORES} cores."
    formula = "seconds = start-up + photos / (cores x photos/s of one process x efficiency); the efficiency of two"
    limits = "workers on one machine is assumed for all, so that network, file server and more nodes are left out."
    table = tabulate(rows, ["", "way", "hours"], tablefmt="pipe", floatfmt=("", "", ".2f"))
    return f"{title}\n{formula}\n{limits}\n\n{table}"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", help="folder of photos")
    parser.add_argument("--few", type=int, default=64, help="photos of the short runs (default %(default)s)")
    parser.add_argument("--many", type=int, default=1024, help="of the long runs of predictions (default %(default)s)")
    parser.add_argument("--proposals", type=int, default=256, help="of those of proposals (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="after one that is not counted (default %(default)s)")
    parser.add_argument("--model", type=Path, help="model folder; default: random weights of efficientnet_lite0")
    parser.add_argument("--opts", nargs="*", default=[], metavar="KEY=VALUE", help="overrides for the proposals")
    parser.add_argument("--job", type=json.loads, help=argparse.SUPPRESS)  # used by run_jobs
    arguments = parser.parse_args()
    if len(os.sched_getaffinity(0)) < 2 and not arguments.job:
        parser.error("this process may use one core: the benchmark needs two")
    if not 64 <= arguments.few < min(arguments.many, arguments.proposals):
        parser.error("--few: give 64 or more, so that each of two shards has a part, and less than the long runs have")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    if arguments.job:
        run_job(Job(*arguments.job))
        return
    cores = sorted(os.sched_getaffinity(0))[:2]
    ways = [ONE, TWO] + [RAY] * (importlib.util.find_spec("ray") is not None)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        count = max(arguments.many, arguments.proposals)
        if arguments.images:
            paths = [Path(path) for path in itertools.islice(walk_folder(arguments.images), count)]
            if len(paths) < count:
                raise SystemExit(
                    f"{arguments.images} has {len(paths)} photos, {count} are needed: set --many, --proposals"
                )
        else:
            (folder / "photos").mkdir()
            paths = write_photos(folder / "photos", count)
        model = (arguments.model or write_model(folder / "model", RECIPE)).absolute()
        few, many, half = (
            link_photos(paths[:n], folder / f"photos_{i}")
            for i, n in enumerate((arguments.few, arguments.many, arguments.proposals))
        )

        def predictions(way: str, photos: Photos, output: Path) -> list[Job]:
            return prediction_jobs(way, photos, output, model, cores)

        def proposals(way: str, photos: Photos, output: Path) -> list[Job]:
            return proposal_jobs(way, photos, output, arguments.opts, cores)

        speeds = {"predictions": measure(predictions, ways, few, many, folder / "predictions", arguments.rounds)}
        print(f"{speed_table('predictions', speeds['predictions'])}\n", flush=True)
        speeds["proposals"] = measure(proposals, ways, few, half, folder / "proposals", arguments.rounds)
        print(f"{speed_table('proposals', speeds['proposals'])}\n")
        print(cluster_table(speeds))


if __name__ == "__main__":
    main()
