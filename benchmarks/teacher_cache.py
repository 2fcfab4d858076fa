#!/usr/bin/env python
"""Size and speed of the teacher cache, beside the format before it: float32 logits and half-precision maps.

    python benchmarks/teacher_cache.py
    python benchmarks/teacher_cache.py --size 672 --stride 16 --channels 512 --proposals 500 --zeros 0.5 0.8 0.95

Maps are smoothed noise after a ReLU with a given share of zeros, logits normal numbers: a trained teacher's compress
otherwise, and the cache prints its own estimate before it starts. The size for COCO is a calculation from bytes per
image. The older format is written as plain arrays with a checksum of each row.
"""

import wsd_distill  # noqa: F401  (first: it patches Detectron2 0.6 for a current PyTorch)

# isort: split
import argparse
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np
import torch
from tabulate import tabulate

from wsd_distill.distillation.compact import pack, pack_logits, unpack, unpack_logits
from wsd_distill.distillation.row_file import RowFile

COCO_IMAGES = 82_783  # train2014
CPU = torch.device("cpu")


def make_outputs(options, zeros: float, images: int = 8) -> list[tuple]:
    """Return (map, cls_logits, det_logits) of random images."""
    generator = torch.Generator().manual_seed(0)
    side, outputs = options.size // options.stride, []
    for _ in range(images):
        noise = torch.randn(options.channels, side + 2, side + 2, generator=generator)
        smooth = torch.nn.functional.avg_pool2d(noise, 3, stride=1)  # (C, side, side)
        threshold = smooth.flatten().kthvalue(max(1, round(zeros * smooth.numel()))).values if zeros else -np.inf
        logits = torch.randn(2, options.proposals, options.classes, generator=generator) * 3
        outputs.append(((smooth - threshold).relu() if zeros else smooth, *logits))
    return outputs


def write_new(folder: Path, outputs: list[tuple], images: int) -> dict[str, RowFile]:
    files = {name: RowFile(folder, name, rows=images, identity="benchmark") for name in ("map", "logits")}
    for file in files.values():
        file.create()
        file.open()
    with files["map"].writing(0), files["logits"].writing(0):
        for i in range(images):
            features, cls_logits, det_logits = outputs[i % len(outputs)]
            files["map"].write(i, pack(features), 1)
            files["logits"].write(i, pack_logits(cls_logits, det_logits), 1)
    return files


def read_new(files: dict[str, RowFile], i: int) -> None:
    unpack(files["map"].read(i), CPU)
    unpack_logits(files["logits"].read(i), CPU)


def write_old(folder: Path, outputs: list[tuple], images: int) -> dict[str, np.ndarray]:
    features, cls_logits, _ = outputs[0]
    shapes = {"map": (np.float16, features.shape), "logits": (np.float32, (2, *cls_logits.shape))}
    files = {
        name: np.lib.format.open_memmap(folder / f"old_{name}.npy", "w+", dtype, (images, *shape))
        for name, (dtype, shape) in shapes.items()
    }
    for i in range(images):
        features, cls_logits, det_logits = outputs[i % len(outputs)]
        for name, value in (("map", features.half()), ("logits", torch.stack([cls_logits, det_logits]))):
            files[name][i] = value.numpy()
            zlib.crc32(value.numpy().data)
    return files


def read_old(files: dict[str, np.ndarray], i: int) -> None:
    for file in files.values():
        value = file[[i]]
        zlib.crc32(value.data)
        torch.from_numpy(value).float()


def measure(options, zeros: float) -> dict[str, float]:
    """Return bytes per image by component, seconds to write, and images/s of both formats, in page cache."""
    outputs, images, found = make_outputs(options, zeros), options.images, {}
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        for kind, write, read in (("old", write_old, read_old), ("new", write_new, read_new)):
            started = time.perf_counter()
            files = write(Path(name), outputs, images)
            found[f"{kind} seconds"] = time.perf_counter() - started
            order = np.random.default_rng(0).permutation(images).tolist()
            started = time.perf_counter()
            for i in order:
                read(files, i)
            found[f"{kind} read"] = images / (time.perf_counter() - started)
            found[f"{kind} write"] = images / found[f"{kind} seconds"]
        sizes = {path.name: path.stat().st_size / images for path in Path(name).iterdir()}
    for part in ("map", "logits"):
        found[f"old {part}"] = sizes[f"old_{part}.npy"]
        found[f"new {part}"] = sizes[f"{part}.0.rows"]
    found["index"] = sum(size for name, size in sizes.items() if name.endswith(".index.npy"))
    for kind in ("old", "new"):
        found[kind] = found[f"{kind} map"] + found[f"{kind} logits"] + (found["index"] if kind == "new" else 0)
    return found


def compare(options) -> str:
    """Return the table of both formats, for each share of zeros."""
    rows = []
    for zeros in options.zeros:
        found = measure(options, zeros)
        for kind in ("old", "new"):
            parts = [found[f"{kind} {part}"] / 1e3 for part in ("map", "logits")]
            gigabytes = found[kind] * COCO_IMAGES / 1e9
            rows.append([f"{zeros:.0%}", kind, *parts, gigabytes, found[f"{kind} write"], found[f"{kind} read"]])
    headers = ["zeros", "format", "map, kB", "logits, kB", "COCO, GB (calculation)", "written/s", "read/s"]
    return tabulate(rows, headers=headers, tablefmt="pipe", floatfmt=".4g")


def growth(options) -> str:
    """Return bytes and seconds at 1, 4 and 16 times the images, proposals and classes of a small cache."""
    rows = []
    start = {"images": 32, "proposals": 100, "classes": 20}
    for name in start:
        base = None
        for factor in (1, 4, 16):
            small = {"size": 384, "stride": 32, "channels": 320, "folder": options.folder, **start}
            small[name] *= factor
            found = measure(argparse.Namespace(**small), zeros=0.0)
            size, seconds = found["new"] * small["images"], found["new seconds"]
            base = base or (size, seconds)
            rows.append([name, f"{factor}x", size / 1e6, size / base[0], seconds, seconds / base[1]])
    headers = ["growth of", "factor", "MB", "times", "write, s", "times"]
    return tabulate(rows, headers=headers, tablefmt="pipe", floatfmt=".3g")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Size and speed of the teacher cache.", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--size", type=int, default=672, help="side of the teacher's input in pixels")
    parser.add_argument("--stride", type=int, default=16, help="of the map")
    parser.add_argument("--channels", type=int, default=512, help="of the map")
    parser.add_argument("--proposals", type=int, default=500, help="per image")
    parser.add_argument("--classes", type=int, default=80)
    parser.add_argument("--zeros", type=float, nargs="+", default=[0.0, 0.5, 0.8, 0.95], help="shares of zeros in maps")
    parser.add_argument("--folder", help="folder for temporary files; default: the system's")
    return parser.parse_args()


def main() -> None:
    options = parse_arguments()
    torch.set_num_threads(1)
    print(compare(options), growth(options), sep="\n\n")


if __name__ == "__main__":
    main()
