"""Times of several calls, measured in turns, and photos to measure with."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

PHOTOS = ["astronaut", "chelsea", "coffee", "motorcycle_left", "motorcycle_right"]


def write_photos(folder: Path, count: int) -> list[Path]:
    """Write JPEGs of 640 x 480 from photos shipped with scikit-image, the same in every run."""
    import skimage

    rng = np.random.default_rng(0)
    photos = [np.asarray(Image.open(Path(skimage.__file__).parent / "data" / f"{name}.png")) for name in PHOTOS]
    paths = [folder / f"{i:05d}.jpg" for i in range(count)]
    for i, path in enumerate(paths):
        photo = np.pad(photos[i % len(photos)][..., :3], [(0, 480), (0, 640), (0, 0)], mode="symmetric")
        top, left = rng.integers(480), rng.integers(640)
        Image.fromarray(photo[top % 300 :][:480, left % 400 :][:, :640]).save(path, quality=90)
    return paths


def measure_in_turns(
    calls: dict[str, Callable[[], object]], rounds: int, *, twice: bool = False
) -> dict[str, np.ndarray]:
    """Call A B A B ..., so that other programs disturb all alike.

    Args:
        twice: call each twice in its turn and time the second call, as in a loop of its own: after a call with much
            more memory, the next call is slower.

    Returns:
        Name -> (rounds, 2) seconds of this process on the CPU and on the clock; a round before is not counted.
    """
    found = {name: np.zeros((rounds + 1, 2)) for name in calls}
    for i in range(rounds + 1):
        for name, call in calls.items():
            if twice:
                call()
            cpu, wall = time.process_time(), time.perf_counter()
            call()
            found[name][i] = time.process_time() - cpu, time.perf_counter() - wall
    return {name: seconds[1:] for name, seconds in found.items()}


def median_ratio(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the median over rounds of the ratio in the same round, (2,): CPU and clock."""
    return np.median(first / second, axis=0)


def peak_memory() -> float:
    """Return the peak resident size of this process in MB; getrusage would include the parent process."""
    (line,) = (x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def median_of(call: Callable[[], float], rounds: int) -> float:
    """Return the median of what a call returns; the first call, which reads files from the disk, is not counted."""
    return median([call() for _ in range(rounds + 1)][1:])
