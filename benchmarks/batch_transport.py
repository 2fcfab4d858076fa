#!/usr/bin/env python
"""Compare what a batch costs on its way from a loader process: as a SharedBatch, and as PyTorch sends a list.

    python benchmarks/batch_transport.py

Batches of 16 images that exist already, one loader process, one thread. CPU milliseconds per batch of the receiving
process and of the loader process, medians of rounds in turns; the ratio is PyTorch's list over SharedBatch.
"""

import wsd_distill  # noqa: F401  (first: it patches Detectron2 0.6 for a current PyTorch)

# isort: split
import argparse
import gc
import resource
import time

import numpy as np
import torch
from detectron2.structures import Boxes, Instances
from tabulate import tabulate
from torch.utils.data import DataLoader

from wsd_distill.data.transport import collate

BATCH = 16
CASES = {"S-Cls, 128": (128, 0), "S-Cls, 224": (224, 0), "T-WDet, 384": (384, 100), "T-WDet, 672": (672, 500)}


class Images(torch.utils.data.Dataset):
    """The same images again and again, as the mapper yields them."""

    def __init__(self, length: int, side: int, proposals: int):
        self.length, self.images = length, [make_image(i, side, proposals) for i in range(BATCH)]

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict:
        return self.images[index % BATCH]


def make_image(image_id: int, side: int, proposals: int) -> dict:
    """Return an image as the mapper yields it."""
    pixels = torch.zeros(3, side, side, dtype=torch.uint8)
    image = {"image_id": image_id, "image": pixels, "labels": torch.zeros(80)}
    if proposals:
        instances = Instances((side, side))
        instances.proposal_boxes = Boxes(torch.zeros(proposals, 4))
        instances.scores, instances.rows = torch.zeros(proposals), torch.zeros(proposals, dtype=torch.int64)
        image["proposals"] = instances
    return image


def measure(images: Images, collate_fn) -> list[float]:
    """Return CPU ms per batch, of this process after the first batch and of the loader process with its start."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    loader = iter(DataLoader(images, batch_size=BATCH, num_workers=1, collate_fn=collate_fn))
    next(loader)
    started = time.process_time()
    for batch in loader:
        for image in batch:
            image["image"][0, 0, 0].item()
    own = time.process_time() - started
    del loader  # waits for its process
    gc.collect()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    child = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    batches = len(images) // BATCH
    return [1000 * own / (batches - 1), 1000 * child / batches]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=200, help="of a round (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for name, case in CASES.items():
        images = Images(BATCH * arguments.batches, *case)
        rounds = [[measure(images, f) for f in (collate, lambda x: x)] for _ in range(arguments.rounds)]
        (ours, theirs) = np.median(rounds, axis=0)
        rows.append([name, *(x for pair in zip(ours, theirs, theirs / ours) for x in pair)])
    processes = [f"{process}, {x}" for process in ("receiver", "loader") for x in ("ms", "as a list, ms", "ratio")]
    print(tabulate(rows, ["batch", *processes], floatfmt=".1f", tablefmt="github"))


if __name__ == "__main__":
    main()
