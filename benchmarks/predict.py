#!/usr/bin/env python
"""Measure ``wsd predict`` with a model folder: the time of one photo from a cold start, and images/s.

    python benchmarks/predict.py pets/model --images photos/

Without --images, the benchmark writes JPEGs of 640 x 480 pixels from photos shipped with scikit-image. A cold start is
a new process for one photo, with its files in the page cache; it is the median of --rounds, as are the rates. Rates are
those of the loop, without the start.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from tabulate import tabulate

from wsd_distill.predicting.run import Options, predict
from wsd_distill.predicting.sources import open_sources
from wsd_distill.tagging import Tagger

NAMES = ["astronaut", "chelsea", "coffee", "motorcycle_left", "motorcycle_right"]


def write_photos(folder: Path, count: int) -> None:
    """Write JPEGs of 640 x 480, the same in every run."""
    import skimage

    rng = np.random.default_rng(0)
    photos = [np.asarray(Image.open(Path(skimage.__file__).parent / "data" / f"{name}.png")) for name in NAMES]
    for i in range(count):
        photo = np.pad(photos[i % len(photos)][..., :3], [(0, 480), (0, 640), (0, 0)], mode="symmetric")
        top, left = rng.integers(480), rng.integers(640)
        Image.fromarray(photo[top % 300 :][:480, left % 400 :][:, :640]).save(folder / f"{i:05d}.jpg", quality=90)


def cold_start(model: str, photo: str, rounds: int) -> float:
    """Median seconds of a process that predicts one photo."""
    program = "import sys; from wsd_distill.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", program, "predict", model, photo]
    times = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])  # the first reads the files from the disk


def rate(tagger: Tagger, images: str, options: Options) -> float:
    """Images per second of one pass over the photos."""
    start = time.perf_counter()
    count = sum(1 for _ in predict(tagger, open_sources([images]), options))
    return count / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="model folder")
    parser.add_argument("--images", help="folder of photos")
    parser.add_argument("--count", type=int, default=200, help="photos to write without --images")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        images = arguments.images or folder
        if not arguments.images:
            write_photos(Path(folder), arguments.count)
        first = next(open_sources([images])).name
        print(f"cold start, one photo: {cold_start(arguments.model, first, arguments.rounds):.2f} s")
        tagger = Tagger.load(arguments.model)
        settings = [(batch, workers) for batch in arguments.batch_sizes for workers in arguments.workers]
        rates: dict[tuple[int, int], list[float]] = {setting: [] for setting in settings}
        for _ in range(arguments.rounds):  # the settings take turns
            for batch, workers in settings:
                rates[batch, workers].append(rate(tagger, images, Options(batch_size=batch, workers=workers)))
        rows = [[*setting, statistics.median(found)] for setting, found in rates.items()]
        print(tabulate(rows, ["batch size", "workers", "images/s"], floatfmt=".1f"))


if __name__ == "__main__":
    main()
