#!/usr/bin/env python
"""Measure how long registered lists of images take to load, and the memory of the processes that read them.

    python benchmarks/dataset_lists.py --images 100000 1000000 10000000 --dicts-up-to 1000000

A list is a CSV of file names and about three of 80 labels. Each row of the table is a fresh process: "first" registers
the list and writes its Arrow file, "again" finds that file, and "dicts" turns the rows into dicts in Detectron2's
DatasetFromList, as any other dataset is kept. Memory is private (anonymous) and mapped from files, beyond that of the
imports; two worker processes are forked, and read 10,000 images each.
"""

import wsd_distill  # noqa: F401  (first: it patches Detectron2 0.6 for a current PyTorch)

# isort: split
import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from detectron2.data import DatasetFromList
from tabulate import tabulate

from wsd_distill.data.build import get_dataset_dicts
from wsd_distill.data.datasets import register_image_list

MODES = ("first", "again", "dicts")
CLASSES = 80
READS, WORKERS, WORKER_READS = 1000, 2, 10_000
_BLOCK = 100_000


def write_list(path: Path, images: int) -> None:
    """Write a CSV with ``images`` rows, the same each time."""
    rng = np.random.default_rng(0)
    with open(path, "w") as file:
        file.write("file,labels\n")
        for start in range(0, images, _BLOCK):
            labels, counts = rng.integers(0, CLASSES, (_BLOCK, 5)), rng.integers(1, 6, _BLOCK)
            file.writelines(
                f"{row // 1000:05d}/photo_{row:09d}.jpg,{';'.join(f'class{k}' for k in set(found[:count]))}\n"
                for row, found, count in zip(range(start, min(images, start + _BLOCK)), labels.tolist(), counts)
            )


def memory() -> dict[str, float]:
    """Return MB of this process: private ones, those mapped from files, and the peak of both together."""
    lines = map(str.split, Path("/proc/self/status").read_text().splitlines())
    values = {line[0].rstrip(":"): int(line[1]) / 1024 for line in lines if line[0].startswith(("Rss", "VmHWM"))}
    return {"private": values["RssAnon"], "mapped": values["RssFile"], "peak": values["VmHWM"]}


def read_random(records, count: int, seed: int) -> float:
    """Return the CPU seconds for ``count`` random images."""
    rows = np.random.default_rng(seed).integers(0, len(records), count).tolist()
    started = time.process_time()
    for row in rows:
        records[row]
    return time.process_time() - started


def measure(path: str, mode: str) -> dict[str, float]:
    """Load the list in this process and in workers; return the numbers of a row."""
    before, started, cpu = memory(), time.perf_counter(), time.process_time()
    register_image_list("list", path)
    records = get_dataset_dicts("list")
    if mode == "dicts":
        records = DatasetFromList(list(records), copy=False)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    peak = memory()["peak"]
    reads = read_random(records, READS, 0)
    after = memory()
    context = multiprocessing.get_context("fork")
    found = context.Queue()

    def work(seed: int) -> None:
        start = memory()
        read_random(records, WORKER_READS, seed)
        found.put({key: value - start[key] for key, value in memory().items()})

    workers = [context.Process(target=work, args=(seed,)) for seed in range(1, WORKERS + 1)]
    for worker in workers:
        worker.start()
    grown = [found.get() for _ in workers]
    for worker in workers:
        worker.join()
    return {
        "seconds": seconds,
        "cpu": cpu,
        "reads": reads,
        **{key: after[key] - before[key] for key in ("private", "mapped")},
        "peak": peak - before["private"] - before["mapped"],
        "worker": max(x["private"] for x in grown),
        "worker_mapped": max(x["mapped"] for x in grown),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--dicts-up-to", type=int, default=1_000_000, help="largest list that is kept as dicts too")
    parser.add_argument("--measure", nargs=2, metavar=("FILE", "MODE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(*arguments.measure)))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for images in arguments.images:
            path = Path(folder) / f"{images}.csv"
            write_list(path, images)
            os.environ["WSD_LISTS"] = folder
            for mode in MODES[: 3 if images <= arguments.dicts_up_to else 2]:
                command = [sys.executable, __file__, "--measure", path, mode]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                found = json.loads(done.stdout.splitlines()[-1])
                rows.append([f"{images:,}", mode, *found.values()])
                print(f"{images:,} {mode}: {found}", file=sys.stderr, flush=True)
            path.unlink()
    headers = ["images", "", "load [s]", "load [CPU s]", f"{READS} reads [CPU s]"]
    headers += ["private [MB]", "mapped [MB]", "peak of loading [MB]", "worker: private [MB]", "mapped [MB]"]
    print(tabulate(rows, headers, tablefmt="pipe", floatfmt=".3g"))


if __name__ == "__main__":
    main()
