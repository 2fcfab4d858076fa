"""Which trainings there are, and which of them each table shows."""

from __future__ import annotations

from dataclasses import dataclass

from .published import BASELINE, DISTILLED, PLAIN, TEACHER


@dataclass(frozen=True)
class Recipe:
    """How a training differs from its config.

    Attributes:
        config: the kind of config, with which the name of its file begins.
        teacher: the run whose T-WDet it distills; "": none.
        start: the run from whose checkpoint it starts; "": as its config says.
        from_imagenet: it starts as S-Cls (w/o) does, whatever its config says.
        stages: it has the iterations that the configs of these have together; none: those of its own config.
        overrides: of its config. detector: T-WDet sees the proposals of the supervised detector. boxes: it sees some.
    """

    config: str
    teacher: str = "teacher"
    start: str = ""
    from_imagenet: bool = False
    stages: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    detector: bool = False
    boxes: bool = True


_BOTH, _SECOND = ("stage1", "stage2"), ("stage2",)
_NOT_WEIGHTED = ("distiller.objectives.loss_roi.weighted=False",)
_TEMPERATURES = "distiller.objectives.loss_class_aware.temperatures"
# A detector's scores reach 1; those of EdgeBoxes are about 0.3, for which some configs have a larger scale.
_SUPERVISED = {"teacher": "teacher_detector", "detector": True, "overrides": ("distiller.teacher.score_scale=1.0",)}

RECIPES = {
    "teacher": Recipe("teacher", teacher=""),
    "student": Recipe("student", teacher="", stages=_SECOND, boxes=False),
    "student_long": Recipe("student", teacher="", stages=_BOTH, boxes=False),
    "stage1": Recipe("stage1"),
    "stage2": Recipe("stage2", start="stage1"),
    "soft_labels": Recipe("soft_labels", stages=_SECOND),
    "fitnets_hint": Recipe("fitnets_hint", stages=("stage1",)),
    "fitnets": Recipe("fitnets", start="fitnets_hint", stages=_SECOND),
    "attention_transfer": Recipe("attention_transfer", stages=_SECOND),
    "class_aware": Recipe("stage2", from_imagenet=True),
    "roi_nms": Recipe("stage1", overrides=_NOT_WEIGHTED),
    "roi_nms_stage2": Recipe("stage2", start="roi_nms"),
    "temperatures_fixed": Recipe("stage2", start="stage1", overrides=(f"{_TEMPERATURES}=fixed",)),
    "temperatures_shared": Recipe("stage2", start="stage1", overrides=(f"{_TEMPERATURES}=shared",)),
    "cross_entropy": Recipe(
        "stage2", start="stage1", overrides=("distiller.objectives.loss_class_aware.distance=bce",)
    ),
    "teacher_detector": Recipe("teacher", teacher="", detector=True, overrides=("model.score_scale=1.0",)),
    "stage1_detector": Recipe("stage1", **_SUPERVISED),
    "stage2_detector": Recipe("stage2", start="stage1_detector", **_SUPERVISED),
}

LONG = "S-Cls (w/o), epochs of both stages"
COMPARISON = {TEACHER: "teacher", PLAIN: "student", LONG: "student_long", DISTILLED: "stage2"}
_METHODS = {
    PLAIN: "student",
    "Distillation [12]": "soft_labels",
    "FitNets [23]": "fitnets",
    "Attention transfer [42]": "attention_transfer",
    DISTILLED: "stage2",
    LONG: "student_long",
}
# Of each table: method -> run. Methods that the paper's table does not have come below its rows.
ROWS = {
    1: _METHODS,
    2: _METHODS,
    3: {PLAIN: "student", TEACHER: "teacher", DISTILLED: "stage2", LONG: "student_long"},
    4: {
        BASELINE: "student",
        "+ Distillation [12]": "soft_labels",
        "+ Class-aware distillation": "class_aware",
        "+ NMS proposals transfer + Class-aware transfer": "roi_nms_stage2",
        "+ RoI-aware transfer + Class-aware transfer": "stage2",
        "RoI-aware + Class-aware, shared temperatures": "temperatures_shared",
        "RoI-aware + Class-aware, temperatures fixed": "temperatures_fixed",
        "RoI-aware + Class-aware, cross-entropy for Eq. 5": "cross_entropy",
        "Baseline, epochs of both stages": "student_long",
    },
    5: {
        BASELINE: "student",
        "T-WDet (EdgeBoxes [47])": "teacher",
        "S-Cls (EdgeBoxes [47])": "stage2",
        "T-WDet (Faster RCNN [22])": "teacher_detector",
        "S-Cls (Faster RCNN [22])": "stage2_detector",
    },
}
