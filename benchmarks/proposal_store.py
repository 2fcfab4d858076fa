#!/usr/bin/env python
"""The proposal store beside Detectron2's own way (a pickle, load_proposals_into_dataset), on generated boxes.

    python benchmarks/proposal_store.py --images 123000 --boxes 500

Both ways end in a dataset whose item i is the dict of image i with its proposals, as loaders use it. Each is measured
in fresh processes, beside a dataset without proposals. Needs 40 bytes of disk, and for Detectron2's way three times
20 bytes of memory, for each box.
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

SIDE = 640  # pixels, of every image
WAYS = ("none", "pickle", "store")  # "none": the dataset without proposals
FILES = {"pickle": "proposals.pkl", "store": "proposals.arrow"}
WORKER_READS = 500  # images that each worker reads before its memory is looked at
READS, ROUNDS = 10_000, 9  # images read for a figure of speed, which is the median of the rounds


def generated(images: int, boxes: int):
    """``(image_id, boxes, falling scores)`` of each image in the order of the store, the same in every run."""
    rng = np.random.default_rng(0)
    for image_id in sorted(range(images), key=str):
        corners = np.sort(rng.random((boxes, 2, 2), dtype=np.float32) * SIDE, axis=1)
        yield image_id, corners.reshape(boxes, 4), np.sort(rng.random(boxes, dtype=np.float32))[::-1].copy()


def write_files(folder: Path, images: int, boxes: int) -> None:
    with ProposalStoreWriter(folder / FILES["store"], StoreMetadata("benchmark", "random boxes")) as writer:
        for row in generated(images, boxes):
            writer.write(*row)
    ids, all_boxes, scores = zip(*generated(images, boxes))
    content = {"ids": ids, "boxes": all_boxes, "objectness_logits": scores, "bbox_mode": BoxMode.XYXY_ABS}
    with open(folder / FILES["pickle"], "wb") as file:
        pickle.dump(content, file, protocol=pickle.HIGHEST_PROTOCOL)


def dataset_dicts(images: int) -> list[dict]:
    return [
        {"file_name": f"images/{i:012d}.jpg", "image_id": i, "height": SIDE, "width": SIDE, "labels": [i % 80]}
        for i in range(images)
    ]


def open_data_set(way: str, folder: str, images: int) -> tuple:
    """The dataset, seconds to open the proposals, and seconds until the dataset is ready to be read."""
    dicts = dataset_dicts(images)
    started = time.perf_counter()
    if way == "pickle":
        dicts = load_proposals_into_dataset(dicts, os.path.join(folder, FILES[way]))
    elif way == "store":
        store = ProposalStore(os.path.join(folder, FILES[way]), "benchmark")
    opened = time.perf_counter() - started
    data_set = DatasetWithProposals(dicts, store) if way == "store" else DatasetFromList(dicts, copy=False)
    return data_set, opened, time.perf_counter() - started


def memory() -> dict[str, float]:
    """MB of this process: RSS counts a shared page whole, PSS its share of it, USS not at all."""
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


def reads_per_second(data_set, indices: list[int]) -> float:
    started = time.perf_counter()
    for index in indices:
        data_set[index]
    return len(indices) / (time.perf_counter() - started)


def _work(data_set, indices: list[int], read, results) -> None:
    for index in indices:
        data_set[index]
    read.wait()  # all have read and none has ended: what is shared is shared by all
    results.put(memory())
    read.wait()


def measure_workers(data_set, workers: int, method: str) -> dict[str, float]:
    """Mean memory of worker processes, each after its own random reads, and PSS of all with their parent."""
    context = multiprocessing.get_context(method)
    read, results = context.Barrier(workers + 1), context.Queue()
    rng = np.random.default_rng(1)
    processes = []
    for _ in range(workers):
        indices = rng.integers(len(data_set), size=WORKER_READS).tolist()
        processes.append(context.Process(target=_work, args=(data_set, indices, read, results)))
        processes[-1].start()
    read.wait()
    found = [results.get() for _ in processes]
    total = memory()["PSS"] + sum(each["PSS"] for each in found)
    read.wait()
    for process in processes:
        process.join()
    return {**{key: float(np.mean([each[key] for each in found])) for key in found[0]}, "all": total}


def measure(way: str, folder: str, images: int, workers: list[int], method: str) -> dict:
    """Everything about one way, in a process that has done nothing else."""
    data_set, opened, ready = open_data_set(way, folder, images)
    memories = {str(count): measure_workers(data_set, count, method) for count in workers}
    first = reads_per_second(data_set, np.random.default_rng(2).integers(images, size=1000).tolist())
    return {"opened": opened, "ready": ready, "memory": memories, "first": first}


def measure_reads(folder: str, images: int) -> dict[str, float]:
    """Reads per second of each way, in turns in one process, so that whatever else the machine does hits all."""
    data_sets = {way: open_data_set(way, folder, images)[0] for way in WAYS}
    rng, rounds = np.random.default_rng(3), []
    for _ in range(ROUNDS):
        indices = rng.integers(images, size=READS).tolist()
        rounds.append([reads_per_second(data_set, indices) for data_set in data_sets.values()])
    return dict(zip(data_sets, np.median(rounds, axis=0).tolist()))


def in_fresh_process(*job) -> dict:
    """
    Args:
        job: name of a function of this file, and its arguments.
    """
    command = [sys.executable, "-W", "ignore", __file__, "--job", json.dumps(job)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])


def restore_catalogs(path: Path) -> None:
    """Drop a file from the page cache, so that the next reader reads the disk."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_through(path: Path) -> None:
    """Bring a file into the page cache."""
    with open(path, "rb") as file:
        while file.read(1 << 24):
            pass


def compare(folder: Path, arguments: argparse.Namespace) -> str:
    """Both files are in the page cache, but for the rows that say otherwise."""
    cold, settings = {}, (str(folder), arguments.images)
    for way in FILES:
        restore_catalogs(folder / FILES[way])
        cold[way] = in_fresh_process("measure", way, *settings, [], arguments.start_method)
        read_through(folder / FILES[way])
    warm = {way: in_fresh_process("measure", way, *settings, arguments.workers, arguments.start_method) for way in WAYS}
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
    """``more``: more is better. ``added``: compare what each way adds to a dataset without proposals."""
    none, pickled, store = (value(found[way]) if way in found else None for way in WAYS)
    base = none if added else 0
    ratio = (store - base) / (pickled - base) if more else (pickled - base) / max(store - base, 1e-9)
    return [name, none, pickled, store, f"{ratio:.3g}x" + (" (added)" if added else "")]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="The proposal store beside Detectron2's pickle, on generated boxes.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--images", type=int, default=123_000)
    parser.add_argument("--boxes", type=int, default=500, help="of each image")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 8], help="numbers of worker processes")
    parser.add_argument("--start-method", choices=["fork", "spawn"], default="fork", help="of the workers")
    parser.add_argument("--folder", type=Path, help="where to put the two files; default: a temporary folder")
    parser.add_argument("--keep", action="store_true", help="leave the files in --folder and use those that are there")
    parser.add_argument("--job", type=json.loads, help=argparse.SUPPRESS)  # what a fresh process is to measure
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
