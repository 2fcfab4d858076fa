"""The results of the paper's Tables 1 to 5, in percent, in the paper's order of rows.

Metrics are named as in ``wsd_distill.evaluation``: the paper's F1-C is CF1, its F1-O is OF1.
"""

from __future__ import annotations

from dataclasses import dataclass

COCO, NUS_WIDE = "MS-COCO", "NUS-WIDE"
TEACHER, PLAIN, DISTILLED, BASELINE = "T-WDet", "S-Cls (w/o)", "S-Cls (w/)", "Baseline (Sigmoid-Logistic)"
ALL_AND_TOP3 = ("mAP", "CF1", "OF1", "CF1-top3", "OF1-top3")
_ = None  # not in the paper


@dataclass(frozen=True)
class PublishedTable:
    """The part of a table of the paper that shows one dataset."""

    title: str  # without the number
    dataset: str  # name in the paper
    baseline: str  # the method that gains refer to
    metrics: tuple[str, ...]
    rows: dict[str, tuple[float | None, ...]]  # method -> one result per metric

    def results(self, method: str) -> dict[str, float]:
        """Metric -> percent; empty for a method that is not in the table."""
        return {m: value for m, value in zip(self.metrics, self.rows.get(method, ())) if value is not None}


_TABLE_1 = {
    "CNN-RNN [32]": (_, _, _, 60.4, 67.8),
    "CNN-LSEP [19]": (_, 62.9, 68.3, _, _),
    "CNN-SREL-RNN [21]": (_, 63.4, 72.5, _, _),
    "RMAM (512+10crop) [33]": (72.2, _, _, 66.5, 71.3),
    "RARLF (512+10crop) [5]": (_, _, _, 65.6, 70.5),
    "MIML-FCN-BB [39]": (66.2, _, _, _, _),
    "MCG-CNN-LSTM [43]": (64.4, _, _, 58.1, 61.3),
    "RLSD [43]": (68.2, _, _, 62.0, 66.5),
    PLAIN: (70.9, 63.6, 67.0, 60.7, 66.7),
    "Distillation [12]": (71.3, 64.7, 69.3, 61.5, 67.6),
    "FitNets [23]": (72.5, 65.2, 70.9, 62.3, 68.3),
    "Attention transfer [42]": (71.4, 64.6, 69.8, 61.6, 67.8),
    DISTILLED: (74.6, 69.2, 74.0, 66.8, 72.7),
}
_TABLE_2 = {
    "CNN-RNN [32]": (_, _, _, 34.7, 55.2),
    "Tag-Neighbors [15]": (52.8, _, _, 45.2, 62.5),
    "CNN-LSEP [19]": (_, 52.9, 70.8, _, _),
    "CNN-SREL-RNN [21]": (_, 52.8, 71.0, _, _),
    "MCG-CNN-LSTM [43]": (52.4, _, _, 46.1, 59.9),
    "RLSD [43]": (54.1, _, _, 46.9, 60.3),
    "KCCA [30]": (52.2, _, _, _, _),
    PLAIN: (55.6, 52.0, 67.2, 47.5, 64.8),
    "Distillation [12]": (57.2, 54.3, 69.5, 50.3, 67.5),
    "FitNets [23]": (57.4, 54.9, 70.4, 51.4, 68.6),
    "Attention transfer [42]": (57.6, 55.2, 70.3, 51.7, 68.8),
    DISTILLED: (60.1, 58.7, 73.7, 53.8, 71.1),
}
_TABLE_3 = {
    COCO: {PLAIN: (70.9,), TEACHER: (78.6,), DISTILLED: (74.6,)},
    NUS_WIDE: {PLAIN: (55.6,), TEACHER: (58.2,), DISTILLED: (60.1,)},
}
_TABLE_4 = {
    BASELINE: (70.9,),
    "+ Distillation [12]": (71.3,),
    "+ Class-aware distillation": (72.1,),
    "+ NMS proposals transfer + Class-aware transfer": (73.8,),
    "+ RoI-aware transfer + Class-aware transfer": (74.6,),
}
_TABLE_5 = {
    BASELINE: (70.9,),
    "T-WDet (EdgeBoxes [47])": (78.6,),
    "S-Cls (EdgeBoxes [47])": (74.6,),
    "T-WDet (Faster RCNN [22])": (81.1,),
    "S-Cls (Faster RCNN [22])": (76.3,),
}

PUBLISHED = {
    1: [PublishedTable("comparison of methods", COCO, PLAIN, ALL_AND_TOP3, _TABLE_1)],
    2: [PublishedTable("comparison of methods", NUS_WIDE, PLAIN, ALL_AND_TOP3, _TABLE_2)],
    3: [PublishedTable("overall ablation study", name, PLAIN, ("mAP",), rows) for name, rows in _TABLE_3.items()],
    4: [PublishedTable("component-wise ablation study", COCO, BASELINE, ("mAP",), _TABLE_4)],
    5: [PublishedTable("proposals of EdgeBoxes and of Faster R-CNN", COCO, BASELINE, ("mAP",), _TABLE_5)],
}
