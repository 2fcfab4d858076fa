"""The paper's Tables 1 to 5: published results, and the training that each row shows.

``paper_tables.csv`` has a line per row, first the paper's in its order, then ours without a published result. Results
are in percent; metrics are named as in ``wsd_distill.evaluation`` (the paper's F1-C is CF1, its F1-O is OF1).
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

COCO, NUS_WIDE = "MS-COCO", "NUS-WIDE"
TEACHER, PLAIN, DISTILLED, BASELINE = "T-WDet", "S-Cls (w/o)", "S-Cls (w/)", "Baseline (Sigmoid-Logistic)"
PLAIN_LONG = "S-Cls (w/o), epochs of both stages"
ALL_AND_TOP3 = ("mAP", "CF1", "OF1", "CF1-top3", "OF1-top3")


@dataclass(frozen=True)
class PublishedTable:
    """The part of a table of the paper that shows one dataset."""

    title: str  # without the number
    dataset: str  # name in the paper
    baseline: str  # the method that gains refer to
    metrics: tuple[str, ...]
    rows: dict[str, dict[str, float]]  # method -> metric -> percent
    trainings: dict[str, str]  # method -> training, in the order of the rows; ends with methods not in ``rows``


def _read(number: int, title: str, dataset: str, baseline: str, metrics: tuple[str, ...]) -> PublishedTable:
    with open(Path(__file__).with_name("paper_tables.csv"), newline="") as file:
        lines = [line for line in csv.DictReader(file) if (line["table"], line["dataset"]) == (str(number), dataset)]
    results = {line["method"]: {m: float(line[m]) for m in metrics if line[m]} for line in lines}
    trainings = {line["method"]: line["training"] for line in lines if line["training"]}
    return PublishedTable(title, dataset, baseline, metrics, {m: r for m, r in results.items() if r}, trainings)


PUBLISHED = {
    1: [_read(1, "comparison of methods", COCO, PLAIN, ALL_AND_TOP3)],
    2: [_read(2, "comparison of methods", NUS_WIDE, PLAIN, ALL_AND_TOP3)],
    3: [_read(3, "overall ablation study", dataset, PLAIN, ("mAP",)) for dataset in (COCO, NUS_WIDE)],
    4: [_read(4, "component-wise ablation study", COCO, BASELINE, ("mAP",))],
    5: [_read(5, "proposals of EdgeBoxes and of Faster R-CNN", COCO, BASELINE, ("mAP",))],
}
