"""The trainings of the paper's experiments, and its Tables 1 to 5: published results and the training of each row.

Table 6 is ours: region-consistent transfer with its controls.

``paper_tables.csv`` has a line per row, first the paper's in its order, then ours without a published result. Results
are in percent; metrics are named as in ``wsd_distill.evaluation`` (the paper's F1-C is CF1, its F1-O is OF1).
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

COCO, NUS_WIDE = "MS-COCO", "NUS-WIDE"
TEACHER, PLAIN, DISTILLED, BASELINE = "T-WDet", "S-Cls (w/o)", "S-Cls (w/)", "Baseline (Sigmoid-Logistic)"
PLAIN_LONG = "S-Cls (w/o), epochs of both stages"
BEYOND = 6  # number of our own table
ALL_AND_TOP3 = ("mAP", "CF1", "OF1", "CF1-top3", "OF1-top3")


@dataclass(frozen=True)
class Training:
    """A training as changes to a config of the recipe."""

    config: str  # name of the file
    teacher: str | tuple[str, ...] = "teacher"  # training of the T-WDet to distill, or one for each fold; "": none
    init_from: str = ""  # training to take the initial checkpoint from; "": as configured
    from_imagenet: bool = False  # start from the checkpoint that S-Cls (w/o) starts from
    length_of: tuple[str, ...] = ()  # configs whose lengths add up to its length; empty: as configured
    overrides: tuple[str, ...] = ()
    proposals: bool = True  # whether it needs proposals
    detector: bool = False  # whether these come from the supervised detector
    only_with: str = ""  # config without which a recipe leaves the training out


_BOTH, _SECOND = ("stage1", "stage2"), ("stage2",)
_TRUNK = "region_consistent_trunk"
_CLASS_AWARE = "distiller.objectives.loss_class_aware"

FOLDS = {f"teacher_fold{i}": f"{i}/3" for i in range(3)}

TRAININGS = {
    "teacher": Training("teacher", teacher=""),
    **{name: Training("teacher", teacher="", overrides=(f"dataset.leave_out={x}",)) for name, x in FOLDS.items()},
    "student": Training("student", teacher="", length_of=_SECOND, proposals=False),
    "student_long": Training("student", teacher="", length_of=_BOTH, proposals=False),
    "stage1": Training("stage1"),
    "stage2": Training("stage2", init_from="stage1"),
    "soft_labels": Training("soft_labels", length_of=_SECOND),
    "fitnets_hint": Training("fitnets_hint", length_of=("stage1",)),
    "fitnets": Training("fitnets", init_from="fitnets_hint", length_of=_SECOND),
    "attention_transfer": Training("attention_transfer", length_of=_SECOND),
    "l2d": Training("l2d", length_of=_SECOND),
    "feature_distillation": Training("feature_distillation", length_of=_SECOND),
    "class_aware": Training("stage2", from_imagenet=True),
    "roi_nms": Training("stage1", overrides=("distiller.objectives.loss_roi.weighting=none",)),
    "roi_nms_stage2": Training("stage2", init_from="roi_nms"),
    "temperatures_fixed": Training("stage2", init_from="stage1", overrides=(f"{_CLASS_AWARE}.temperatures=fixed",)),
    "temperatures_shared": Training("stage2", init_from="stage1", overrides=(f"{_CLASS_AWARE}.temperatures=shared",)),
    "cross_entropy": Training("stage2", init_from="stage1", overrides=(f"{_CLASS_AWARE}.distance=bce",)),
    "region_consistent": Training("region_consistent", length_of=_SECOND),
    "region_consistent_crossfit": Training(
        "region_consistent",
        teacher=tuple(FOLDS),
        length_of=_SECOND,
        overrides=("distiller.use_cache=True",),
    ),
    "region_consistent_both": Training(
        "region_consistent",
        length_of=_SECOND,
        overrides=(
            "distiller.trunk_checkpoint=${train.init_checkpoint}",
            "distiller.cache.folder=${train.output_dir}/teacher_cache",
        ),
        only_with=_TRUNK,
    ),
    "region_consistent_trunk": Training(
        "region_consistent_trunk", teacher="", length_of=_SECOND, proposals=False, only_with=_TRUNK
    ),
    "region_consistent_trunk_small": Training(
        "region_consistent_trunk_small", teacher="", length_of=_SECOND, proposals=False, only_with=f"{_TRUNK}_small"
    ),
    "classifier_teacher": Training("classifier_teacher", teacher="", proposals=False, only_with="classifier_teacher"),
    "region_consistent_classifier": Training(
        "region_consistent_trunk",
        teacher="classifier_teacher",
        length_of=_SECOND,
        overrides=("distiller.cache.folder=${train.output_dir}/teacher_cache",),
        proposals=False,
        only_with="classifier_teacher",
    ),
    "teacher_detector": Training("teacher", teacher="", detector=True),
    "stage1_detector": Training("stage1", teacher="teacher_detector", detector=True),
    "stage2_detector": Training("stage2", "teacher_detector", "stage1_detector", detector=True),
}

COMPARISON = {TEACHER: "teacher", PLAIN: "student", PLAIN_LONG: "student_long", DISTILLED: "stage2"}


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
    BEYOND: [_read(BEYOND, "region-consistent transfer and its controls, beyond the paper", COCO, PLAIN, ("mAP",))],
}


def get_trainings(numbers: Iterable[int]) -> list[str]:
    """Return the names of the trainings that these tables show, or without numbers those of the comparison."""
    tables = [PUBLISHED[number][0].trainings for number in numbers] or [COMPARISON]
    return list(dict.fromkeys(name for rows in tables for name in rows.values()))


def label_trainings(numbers: Sequence[int], output: Path, seeds: int) -> dict[str, str]:
    """Return label -> training of a report, each once, after the training that it starts from, by its first label.

    Those of the comparison are left out if ``numbers`` has no table that shows them and ``output`` has no run of them.
    """
    shown = {*get_trainings(numbers), *(path.name for i in range(seeds) for path in output.glob(f"seed{i}/*"))}
    labels: dict[str, str] = {}
    for rows in (COMPARISON, *(PUBLISHED[number][0].trainings for number in numbers)):
        for method, name in rows.items():
            init_from = TRAININGS[name].init_from
            stage = "hint" if "hint" in init_from else "stage 1"
            for label, training in ((f"{method}, {stage}", init_from), (method, name)):
                if training and name in shown and training not in labels.values():
                    labels[label] = training
    return labels
