#!/usr/bin/env python
"""Measure time and memory of reading tags.

    python benchmarks/read_tags.py --rows 1000000 --classes 80

Writes the same tags (three per photo on average) as CSV, one-hot CSV, Parquet and JSON lines, and reads each in a
process of its own: seconds, megabytes above those of the imports at the peak, and megabytes of the table. The last row
is the time to find nearly equal photos among as many random difference hashes.
"""

import wsd_distill  # noqa: F401  (first: it patches Detectron2 0.6 for a current PyTorch)

# isort: split
import argparse
import multiprocessing
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet as pq
from tabulate import tabulate

from wsd_distill.tags import read_tags
from wsd_distill.tags.hashes import find_near_pairs


def write_files(folder: Path, rows: int, classes: int, one_hot_classes: int) -> list[Path]:
    generator = np.random.default_rng(0)
    names = np.array([f"class{k}" for k in range(classes)])
    counts = generator.integers(1, 6, rows)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    labels = pa.array(names).take(pa.array(generator.integers(0, classes, offsets[-1])))
    lists = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), labels)
    files = pa.array([f"photos/{row // 1000:04d}/{row:07d}.jpg" for row in range(rows)])
    pq.write_table(pa.table({"file": files, "labels": lists}), folder / "tags.parquet")
    texts = pa.compute.binary_join(lists, ";")
    pa.csv.write_csv(pa.table({"file": files, "labels": texts}), folder / "tags.csv")
    with open(folder / "tags.jsonl", "w") as file:
        for name, text in zip(files.to_pylist(), texts.to_pylist()):
            words = ", ".join(f'"{word}"' for word in text.split(";"))
            file.write(f'{{"file_name": "{name}", "labels": [{words}]}}\n')
    cells = (generator.random((rows, one_hot_classes)) < 0.1).astype(np.int8)
    columns = {name: pa.array(cells[:, k]) for k, name in enumerate(names[:one_hot_classes])}
    pa.csv.write_csv(pa.table({"file": files, **columns}), folder / "one_hot.csv")
    return [folder / name for name in ("tags.csv", "one_hot.csv", "tags.parquet", "tags.jsonl")]


def measure(path: Path) -> tuple[float, float, float]:
    """Return seconds, and megabytes of the peak above the start and of the table."""
    before, start = peak_memory(), time.perf_counter()
    table = read_tags(path)
    seconds = time.perf_counter() - start
    return seconds, peak_memory() - before, table.table.nbytes / 1e6


def peak_memory() -> float:
    """Return megabytes; ``ru_maxrss`` would include the process that started this one."""
    text = Path("/proc/self/status").read_text()
    return int(text.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--classes", type=int, default=80)
    parser.add_argument("--one-hot-classes", type=int, default=20)
    arguments = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for path in write_files(Path(folder), arguments.rows, arguments.classes, arguments.one_hot_classes):
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                seconds, peak, size = pool.apply(measure, (path,))
            results.append((path.name, path.stat().st_size / 1e6, seconds, peak, size))
    headers = ["file", "MB", "seconds", "MB at the peak", "MB of the table"]
    print(tabulate(results, headers=headers, floatfmt=".1f", tablefmt="pipe"))
    hashes = np.unique(np.random.default_rng(0).integers(0, 2**63, arguments.rows, dtype=np.uint64))
    start = time.perf_counter()
    find_near_pairs(hashes)
    print(f"near pairs of {len(hashes)} hashes: {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main()
