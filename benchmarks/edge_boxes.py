#!/usr/bin/env python
"""Compare time and recall of EdgeBoxes over sizes of the image and parameters.

    python benchmarks/edge_boxes.py --dataset coco3k --photos 200

The settings take turns on each photo, in one thread; seconds are CPU time. Recall is the fraction of annotated objects
that the best 100 or 500 boxes of a photo cover with an IoU of at least 0.5 or 0.7.
"""

import wsd_distill

# isort: split
import argparse
import time
from collections import Counter, defaultdict

import cv2
import torch
from detectron2.data import DatasetCatalog
from tabulate import tabulate

import wsd_distill.data.datasets  # noqa: F401  (registers the built-in datasets)
from wsd_distill.data.image import read_rgb
from wsd_distill.data.types import Proposals
from wsd_distill.proposals.generators import EdgeBoxes
from wsd_distill.proposals.recall import proposal_recall

SETTINGS = {
    "320": {"sides": [320]},
    "320, alpha 0.55": {"sides": [320], "alpha": 0.55},
    "400": {"sides": [400]},
    "192, 320": {"sides": [192, 320]},
    "192, 400": {"sides": [192, 400]},
    "192, 320, 480": {"sides": [192, 320, 480]},
    "192, 320, 640 (default)": {},
    "192, 320, 640, alpha 0.55": {"alpha": 0.55},
    "192, 320, min_score 0.03": {"sides": [192, 320], "min_score": 0.03},
}
HEADERS = ["sides", "IoU 0.5, 100", "IoU 0.7, 100", "IoU 0.5, 500", "IoU 0.7, 500", "s/image"]


def measure(records: list[dict], settings: dict[str, dict]) -> list[list]:
    """Return rows: name, recall (100 and 500 boxes at both thresholds), seconds per photo."""
    generators = {name: EdgeBoxes(**options) for name, options in settings.items()}
    seconds: Counter[str] = Counter()
    found: dict[str, dict[str, Proposals]] = defaultdict(dict)
    for record in records:
        image = read_rgb(record["file_name"])
        for name, generator in generators.items():
            started = time.process_time()
            found[name][record["image_id"]] = generator(image)
            seconds[name] += time.process_time() - started
    recalls = {name: proposal_recall(found[name], records) for name in settings}
    return [[name, *recalls[name].flatten(), seconds[name] / len(records)] for name in settings]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="coco3k")
    parser.add_argument("--split", default="train")
    parser.add_argument("--photos", type=int, default=200)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    records = [x for x in DatasetCatalog.get(f"{arguments.dataset}_{arguments.split}") if x.get("annotations")]
    step = max(1, len(records) // arguments.photos)
    rows = measure(records[::step][: arguments.photos], SETTINGS)
    print(tabulate(rows, HEADERS, tablefmt="pipe", floatfmt=("", *[".3f"] * 4, ".2f")))


if __name__ == "__main__":
    main()
