#!/usr/bin/env python
"""Compare the proposal store with Detectron2's pickle, on generated boxes.

    python benchmarks/proposal_store.py --images 123000 --boxes 500

In both modes, item i of the dataset is the dict of image i with its proposals, as loaders use it. Each mode runs in a
fresh process and is compared with a dataset without proposals. Needs 40 bytes of disk per box and, for Detectron2's
pickle, three times 20 bytes of memory per box.
"""

import wsd_distill  # noqa: F401  (first: it patches Detectron2 0.6 for a current PyTorch)

# isort: split
import argparse
import json
import multiprocessing
import os
import pickle
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from detectron2.data import DatasetFromList
from detectron2.data.build import load_proposals_into_dataset
from detectron2.structures import BoxMode
from tabulate import tabulate

from wsd_distill.data.build import DatasetWithProposals
from wsd_distill.data.proposal_store import ProposalStore, ProposalStoreWriter, StoreMetadata

IMAGE_SIZE = 640  # pixels
MODES = ("none", "pickle", "store")  # "none": dataset without proposals
FILES = {"pickle": "proposals.pkl", "store": "proposals.arrow"}
WORKER_READS = 500  # images read by each worker before its memory is measured
READS, ROUNDS = 10_000, 9  # images per round; a read rate is the median over rounds


def generate_rows(images: int, boxes: int):
    """Yield ``(image_id, boxes, scores)`` in the order of the store, reproducibly."""
    rng = np.random.default_rng(0)
    for image_id in sorted(range(images), key=str):
        corners = np.sort(rng.random((boxes, 2, 2), dtype=np.float32) * IMAGE_SIZE, axis=1)
        yield image_id, corners.reshape(boxes, 4), np.sort(rng.random(boxes, dtype=np.float32))[::-1].copy()


def write_files(folder: Path, images: int, boxes: int) -> None:
    """Write the store and the pickle."""
    with ProposalStoreWriter(folder / FILES["store"], StoreMetadata("benchmark", "random boxes")) as writer:
        for row in generate_rows(images, boxes):
            writer.write(*row)
    ids, all_boxes, scores = zip(*generate_rows(images, boxes))
    content = {"ids": ids, "boxes": all_boxes, "objectness_logits": scores, "bbox_mode": BoxMode.XYXY_ABS}
    with open(folder / FILES["pickle"], "wb") as file:
        pickle.dump(content, file, protocol=pickle.HIGHEST_PROTOCOL)


def dataset_dicts(images: int) -> list[dict]:
    """Return dataset dicts of images that do not exist."""
    return [
        {
            "file_name": f"images/{i:012d}.jpg",
            "image_id": i,
            "height": IMAGE_SIZE,
            "width": IMAGE_SIZE,
            "labels": [i % 80],
        }
        for i in range(images)
    ]


def open_dataset(mode: str, folder: str, images: int) -> tuple:
    """Return the dataset, and seconds to open the proposals and to be ready."""
    dicts = dataset_dicts(images)
    started = time.perf_counter()
    if mode == "pickle":
        dicts = load_proposals_into_dataset(dicts, os.path.join(folder, FILES[mode]))
    elif mode == "store":
        store = ProposalStore(os.path.join(folder, FILES[mode]), "benchmark")
    opened = time.perf_counter() - started
    dataset = DatasetWithProposals(dicts, store) if mode == "store" else DatasetFromList(dicts, copy=False)
    return dataset, opened, time.perf_counter() - started


def memory() -> dict[str, float]:
    """Return the memory of this process in MB."""
    values = {}
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]:
        name, value, _ = line.split()
        values[name.rstrip(":")] = int(value) / 1024
    return {
        "RSS": values["Rss"],
        "PSS": values["Pss"],
        "USS": values["Private_Clean"] + values["Private_Dirty"],
        "anonymous PSS": values["Pss_Anon"],
    }


def reads_per_second(dataset, indices: list[int]) -> float:
    """Measure random reads."""
    started = time.perf_counter()
    for index in indices:
        dataset[index]
    return len(indices) / (time.perf_counter() - started)


def _run_worker(dataset, indices: list[int], read, results) -> None:
    for index in indices:
        dataset[index]
    read.wait()  # all workers have read and none has ended, so that all share the same pages
    results.put(memory())
    read.wait()


def measure_workers(dataset, workers: int, method: str) -> dict[str, float]:
    """Return the mean memory of workers after random reads, and the PSS of all."""
    context = multiprocessing.get_context(method)
    read, results = context.Barrier(workers + 1), context.Queue()
    rng = np.random.default_rng(1)
    processes = []
    for _ in range(workers):
        indices = rng.integers(len(dataset), size=WORKER_READS).tolist()
        processes.append(context.Process(target=_run_worker, args=(dataset, indices, read, results)))
        processes[-1].start()
    read.wait()
    found = [results.get() for _ in processes]
    total = memory()["PSS"] + sum(each["PSS"] for each in found)
    read.wait()
    for process in processes:
        process.join()
    return {**{key: float(np.mean([each[key] for each in found])) for key in found[0]}, "all": total}


def measure(mode: str, folder: str, images: int, workers: list[int], method: str) -> dict:
    """Measure one mode, in a fresh process."""
    dataset, opened, ready = open_dataset(mode, folder, images)
    memories = {str(count): measure_workers(dataset, count, method) for count in workers}
    first = reads_per_second(dataset, np.random.default_rng(2).integers(images, size=1000).tolist())
    return {"opened": opened, "ready": ready, "memory": memories, "first": first}


def measure_reads(folder: str, images: int) -> dict[str, float]:
    """Measure reads per second of all modes in turn, in one process."""
    datasets = {mode: open_dataset(mode, folder, images)[0] for mode in MODES}
    rng, rounds = np.random.default_rng(3), []
    for _ in range(ROUNDS):
        indices = rng.integers(images, size=READS).tolist()
        rounds.append([reads_per_second(dataset, indices) for dataset in datasets.values()])
    return dict(zip(datasets, np.median(rounds, axis=0).tolist()))


def in_fresh_process(*job) -> dict:
    """Run a job in a fresh process.

    Args:
        job: name of a function in this file, and its arguments.
    """
    command = [sys.executable, __file__, "--job", json.dumps(job)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])


def evict_from_cache(path: Path) -> None:
    """Remove a file from the page cache, so that the next read comes from disk."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_into_cache(path: Path) -> None:
    """Load a file into the page cache."""
    with open(path, "rb") as file:
        while file.read(1 << 24):
            pass


def compare(folder: Path, arguments: argparse.Namespace) -> str:
    """Return the table; files are in the page cache except in rows ``from disk``."""
    cold, settings = {}, (str(folder), arguments.images)
    for mode in FILES:
        evict_from_cache(folder / FILES[mode])
        cold[mode] = in_fresh_process("measure", mode, *settings, [], arguments.start_method)
        read_into_cache(folder / FILES[mode])
    warm = {
        mode: in_fresh_process("measure", mode, *settings, arguments.workers, arguments.start_method) for mode in MODES
    }
    reads = in_fresh_process("measure_reads", *settings)
    rows = [row("open, from disk, s", cold, lambda found: found["opened"])]
    rows.append(row("open, s", warm, lambda found: found["opened"]))
    rows.append(row("open, and serialise the dataset dicts, s", warm, lambda found: found["ready"]))
    for count in map(str, arguments.workers):
        for key in ("RSS", "PSS", "USS", "anonymous PSS"):
            name = f"{key} of a worker, {count} running, MB"
            rows.append(row(name, warm, lambda found, count=count, key=key: found["memory"][count][key], added=True))
        name = f"PSS of {count} + main process, MB"
        rows.append(row(name, warm, lambda found, count=count: found["memory"][count]["all"], added=True))
    rows.append(row("first 1000 random reads, from disk, /s", cold, lambda found: found["first"], more=True))
    rows.append(row("first 1000 random reads, /s", warm, lambda found: found["first"], more=True))
    rows.append(row("random reads, /s", reads, lambda found: found, more=True))
    headers = ["", "no proposals", "Detectron2's pickle", "store", "store better by"]
    return tabulate(rows, headers=headers, tablefmt="pipe", floatfmt=("", ".4g", ".4g", ".4g", ""))


def row(name: str, found: dict, value, *, more: bool = False, added: bool = False) -> list:
    """Return a row of the table.

    Args:
        name: first cell.
        found: results by mode.
        value: result -> number.
        more: higher is better.
        added: compare the differences to the dataset without proposals.
    """
    none, pickled, store = (value(found[mode]) if mode in found else None for mode in MODES)
    base = none if added else 0
    ratio = (store - base) / (pickled - base) if more else (pickled - base) / max(store - base, 1e-9)
    return [name, none, pickled, store, f"{ratio:.3g}x" + (" (added)" if added else "")]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Compare the proposal store with Detectron2's pickle, on generated boxes.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--images", type=int, default=123_000)
    parser.add_argument("--boxes", type=int, default=500, help="boxes per image")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 8], help="numbers of worker processes")
    parser.add_argument("--start-method", choices=["fork", "spawn"], default="fork", help="start method of the workers")
    parser.add_argument("--folder", type=Path, help="folder of the two files; default: a temporary folder")
    parser.add_argument("--keep", action="store_true", help="keep the files in --folder and reuse existing ones")
    parser.add_argument("--job", type=json.loads, help=argparse.SUPPRESS)  # job of a fresh process
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    if arguments.job:
        name, *values = arguments.job
        print(json.dumps({"measure": measure, "measure_reads": measure_reads}[name](*values)))
        return
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="proposal_store"))
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name for name in FILES.values()]
    try:
        if not (arguments.keep and all(path.exists() for path in paths)):
            write_files(folder, arguments.images, arguments.boxes)
        sizes = ", ".join(f"{path.name} {path.stat().st_size / 1e6:.0f} MB" for path in paths)
        print(
            f"{arguments.images} images x {arguments.boxes} boxes: {sizes}; workers start by {arguments.start_method}\n"
        )
        print(compare(folder, arguments))
    finally:
        if not arguments.keep:
            for path in paths:
                path.unlink(missing_ok=True)
            if not any(folder.iterdir()):
                folder.rmdir()


if __name__ == "__main__":
    main()
