#!/usr/bin/env python
"""Images/s of MultiLabelMapper beside Detectron2's DatasetMapper, on the same JPEGs, in one process and one thread.

    python benchmarks/data_loading.py --images photos/

Without --images on photos that scikit-image ships, continued by mirroring and cut to 500 x 375, 640 x 480 and
1500 x 1000 pixels. Both mappers squash to the same square and flip half of the images; neither has boxes to carry
along, and the files are in the page cache. Rounds take turns; figures are medians over rounds, the ratio being the
median of the rounds' ratios. The last two columns say how far pixels are from those of ``fast=False``, which are
Detectron2's, in grey levels.
"""

import wsd_distill  # noqa: F401  (first: it patches Detectron2 0.6 for a current PyTorch)

# isort: split
import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean, median

import cv2
import numpy as np
import skimage
import torch
from detectron2.data import DatasetMapper
from detectron2.data import transforms as T
from PIL import Image
from tabulate import tabulate

from wsd_distill.data.image import ImageFile
from wsd_distill.data.mapper import MultiLabelMapper

PHOTOS = ["astronaut", "chelsea", "coffee", "motorcycle_left", "motorcycle_right"]
SIZES = {"500 x 375": (500, 375), "640 x 480": (640, 480), "1500 x 1000": (1500, 1000)}


def write_photos(folder: Path, size: tuple[int, int], cuts: int = 8) -> list[Path]:
    """JPEGs of one size, the same in every run: ``cuts`` of each photo."""
    rng = np.random.default_rng(0)
    paths = []
    folder.mkdir()
    for name in PHOTOS:
        photo = np.asarray(Image.open(Path(skimage.__file__).parent / "data" / f"{name}.png").convert("RGB"))
        mirrored = np.pad(photo, [(0, size[1]), (0, size[0]), (0, 0)], mode="symmetric")
        for i in range(cuts):
            top, left = (int(rng.integers(extent)) for extent in photo.shape[:2])
            cut = mirrored[top : top + size[1], left : left + size[0]]
            paths.append(folder / f"{name}_{i}.jpg")
            Image.fromarray(cut).save(paths[-1], quality=90)
    return paths


def dataset_dicts(paths: list[Path]) -> list[dict]:
    shapes = [ImageFile(str(path)).shape for path in paths]
    return [
        {"file_name": str(path), "image_id": i, "height": height, "width": width, "labels": []}
        for i, (path, (height, width)) in enumerate(zip(paths, shapes))
    ]


def rates(mappers: list[Callable], dicts: list[dict], rounds: int) -> np.ndarray:
    """(rounds, mappers) images/s, the mappers taking turns; a round before the first is not counted."""
    seconds = np.zeros((rounds + 1, len(mappers)))
    for i in range(rounds + 1):
        for j, mapper in enumerate(mappers):
            started = time.perf_counter()
            for record in dicts:
                mapper(record)
            seconds[i, j] = time.perf_counter() - started
    return len(dicts) / seconds[1:]


def pixel_difference(dicts: list[dict], side: int) -> tuple[float, float]:
    """Absolute difference between fast and not: its mean, and the median over images of its 99th percentile."""
    ours, exact = (MultiLabelMapper(is_train=False, num_classes=1, sides=[side], fast=fast) for fast in (True, False))
    apart = [(ours(record)["image"].int() - exact(record)["image"].int()).abs().float() for record in dicts]
    return mean(a.mean().item() for a in apart), median(a.flatten().quantile(0.99).item() for a in apart)


def row(name: str, dicts: list[dict], side: int, rounds: int) -> list:
    augmentations = [T.Resize((side, side)), T.RandomFlip()]
    mappers = [
        MultiLabelMapper(is_train=True, num_classes=1, sides=[side]),
        DatasetMapper(True, augmentations=augmentations, image_format="RGB"),
    ]
    measured = rates(mappers, dicts, rounds)
    ours, theirs = np.median(measured, axis=0)
    ratio = np.median(measured[:, 0] / measured[:, 1])
    return [name, len(dicts), side, ours, theirs, ratio, *pixel_difference(dicts, side)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="its *.jpg, instead of generated photos")
    parser.add_argument("--first", type=int, default=200, help="only so many of them (default: %(default)s)")
    parser.add_argument("--sides", type=int, nargs="+", default=[224, 672])
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        if arguments.images:
            sets = {arguments.images.name: sorted(arguments.images.rglob("*.jpg"))[: arguments.first]}
        else:
            sets = {name: write_photos(Path(folder, name), size) for name, size in SIZES.items()}
        for name, paths in sets.items():
            if not paths:
                parser.error(f"{arguments.images} has no *.jpg")
            dicts = dataset_dicts(paths)
            rows += [row(name, dicts, side, arguments.rounds) for side in arguments.sides]
    headers = ["photos", "images", "side", "ours, images/s", "Detectron2", "ratio", "mean difference", "99 %"]
    print(tabulate(rows, headers, floatfmt=("", "", "", ".0f", ".0f", ".2f", ".2f", ".1f"), tablefmt="github"))


if __name__ == "__main__":
    main()
