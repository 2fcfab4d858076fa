#!/usr/bin/env python
"""Compare the speed of MultiLabelMapper and Detectron2's DatasetMapper.

    python benchmarks/data_loading.py --images photos/

Without --images, the benchmark uses photos shipped with scikit-image, extended by mirroring and cropped to 500 x 375,
640 x 480 and 1500 x 1000 pixels. Both mappers run in one process and one thread, resize to the same square and flip
half of the images; there are no boxes, and the files are in the page cache. The mappers take turns in each round. Rates
are medians over rounds, the ratio is the median of the ratios per round. The last two columns are the pixel
differences, in grey levels, between ``fast_decode=True`` and ``False``, which gives Detectron2's pixels.
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


def write_photos(folder: Path, size: tuple[int, int], crops: int = 8) -> list[Path]:
    """Write ``crops`` JPEGs of each photo, the same in every run."""
    rng = np.random.default_rng(0)
    paths = []
    folder.mkdir()
    for name in PHOTOS:
        photo = np.asarray(Image.open(Path(skimage.__file__).parent / "data" / f"{name}.png").convert("RGB"))
        mirrored = np.pad(photo, [(0, size[1]), (0, size[0]), (0, 0)], mode="symmetric")
        for i in range(crops):
            top, left = (int(rng.integers(extent)) for extent in photo.shape[:2])
            crop = mirrored[top : top + size[1], left : left + size[0]]
            paths.append(folder / f"{name}_{i}.jpg")
            Image.fromarray(crop).save(paths[-1], quality=90)
    return paths


def dataset_dicts(paths: list[Path]) -> list[dict]:
    """Return dataset dicts without labels."""
    shapes = [ImageFile(str(path)).shape for path in paths]
    return [
        {"file_name": str(path), "image_id": i, "height": height, "width": width, "labels": []}
        for i, (path, (height, width)) in enumerate(zip(paths, shapes))
    ]


def measure_rates(mappers: list[Callable], dicts: list[dict], rounds: int) -> np.ndarray:
    """Return images/s (rounds, mappers), measured in turn after a warm-up round."""
    seconds = np.zeros((rounds + 1, len(mappers)))
    for i in range(rounds + 1):
        for j, mapper in enumerate(mappers):
            started = time.perf_counter()
            for record in dicts:
                mapper(record)
            seconds[i, j] = time.perf_counter() - started
    return len(dicts) / seconds[1:]


def pixel_difference(dicts: list[dict], size: int) -> tuple[float, float]:
    """Return the mean difference, and the median over images of the 99th percentile."""
    fast, exact = (
        MultiLabelMapper(is_train=False, num_classes=1, sizes=[size], fast_decode=fast_decode)
        for fast_decode in (True, False)
    )
    differences = [(fast(record)["image"].int() - exact(record)["image"].int()).abs().float() for record in dicts]
    return mean(d.mean().item() for d in differences), median(d.flatten().quantile(0.99).item() for d in differences)


def row(name: str, dicts: list[dict], size: int, rounds: int) -> list:
    """Return a row of the table."""
    augmentations = [T.Resize((size, size)), T.RandomFlip()]
    mappers = [
        MultiLabelMapper(is_train=True, num_classes=1, sizes=[size]),
        DatasetMapper(True, augmentations=augmentations, image_format="RGB"),
    ]
    measured = measure_rates(mappers, dicts, rounds)
    ours, theirs = np.median(measured, axis=0)
    ratio = np.median(measured[:, 0] / measured[:, 1])
    return [name, len(dicts), size, ours, theirs, ratio, *pixel_difference(dicts, size)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="use its *.jpg instead of generated photos")
    parser.add_argument("--first", type=int, default=200, help="number of images to use (default: %(default)s)")
    parser.add_argument("--sizes", type=int, nargs="+", default=[224, 672])
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
            rows += [row(name, dicts, size, arguments.rounds) for size in arguments.sizes]
    headers = ["photos", "images", "size", "ours, images/s", "Detectron2", "ratio", "mean difference", "99 %"]
    print(tabulate(rows, headers, floatfmt=("", "", "", ".0f", ".0f", ".2f", ".2f", ".1f"), tablefmt="github"))


if __name__ == "__main__":
    main()
