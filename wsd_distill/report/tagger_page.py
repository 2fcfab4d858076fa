"""The report of ``wsd train``: what the tagger can do, for someone who has not read the paper."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

import wsd_distill
from wsd_distill.audit.ranking import rank_suspects
from wsd_distill.evaluation.decisions import calibrate
from wsd_distill.evaluation.metrics import f1_scores
from wsd_distill.evaluation.scores import Scores
from wsd_distill.io import atomic_write
from wsd_distill.pipeline.budget import CANDIDATES, describe_time
from wsd_distill.pipeline.candidate_runs import Skipped

from .examples import Example, list_examples, make_example
from .graphs import BEGIN, END
from .plots import Chart, Line, curves
from .templates import render_page
from .thumbnails import THUMBNAIL

if TYPE_CHECKING:  # the pipeline assembles, the report only shows
    from wsd_distill.pipeline.budget import Plan
    from wsd_distill.pipeline.tagger_training import Result

SUSPECTS = 12


class ClassRow(NamedTuple):
    """A class in the table; values in percent, nan where no test photo has the class."""

    name: str
    photos: int
    precision: tuple[float, float, float]  # AP with its interval
    gain: tuple[float, float, float] | None  # of AP over plain fine-tuning, with its interval
    found: float  # recall
    right: float  # precision
    threshold: float


def write_tagger_page(path: Path, name: str, result: Result, plan: Plan, images: Path) -> Path:
    """Write the page, in one file that loads nothing from the network; ``images`` is the folder of the photos."""
    rows, names = class_rows(result), result.kept.test.class_names
    classes = [names.index(row.name) for row in rows]
    html = render_page(
        Path(__file__).with_name("tagger_page.html"),
        name=name,
        version=wsd_distill.__version__,
        written=datetime.now().strftime("%Y-%m-%d %H:%M"),
        result=result,
        plan=plan,
        left_out=[*result.skipped, *_list_unplanned(plan)],
        rows=rows,
        describe_time=describe_time,
        chart=threshold_chart(result.best.val, result.kept.scale, result.kept.offset),
        examples=list_examples(result.kept, result.plain, classes, images),
        suspects=suspects(result, images),
        graphs=BEGIN + END,
    )
    with atomic_write(path) as tmp_path:
        tmp_path.write_text(html, encoding="utf-8")
    return path


def _list_unplanned(plan: Plan) -> list[Skipped]:
    """List the candidates that the plan does not have."""
    reason = "by the measured time of a step, this does not fit into --budget"
    return [Skipped(candidate, reason) for candidate in CANDIDATES if candidate not in plan.candidates]


def class_rows(result: Result) -> list[ClassRow]:
    """Rows of all classes, the most frequent in test first."""
    test, predicted = result.kept.test, result.kept.predicted
    positive = test.labels == 1
    hits = (predicted & positive).sum(0)
    with np.errstate(invalid="ignore"):
        recall, precision = 100 * hits / positive.sum(0), 100 * hits / (predicted & (test.labels >= 0)).sum(0)
    gains: Sequence[tuple[float, float, float] | None] = result.gains or [None] * len(hits)
    columns = zip(test.class_names, positive.sum(0).tolist(), result.classes, gains)
    values = zip(recall.tolist(), precision.tolist(), result.kept.thresholds.values.tolist())
    rows = [ClassRow(*column, *value) for column, value in zip(columns, values)]
    return sorted(rows, key=lambda row: -row.photos)


def threshold_chart(val: Scores, scale: float, offset: float) -> Chart:
    """Draw precision, recall and F1 over all labels on val against the common threshold."""
    scores, steps = calibrate(val.scores, scale, offset), np.linspace(0.02, 0.98, 49)
    found = [f1_scores(scores >= step, val.labels) for step in steps]
    names = {"right among the predicted (precision)": "OP", "found among the present (recall)": "OR", "F1": "OF1"}
    lines = []
    for label, metric in names.items():
        used = [(step, 100 * values[metric]) for step, values in zip(steps.tolist(), found) if values["OR"] > 0]
        points = ([x for x, _ in used], [y for _, y in used])  # without steps at which nothing right is predicted
        lines.append(Line(label, [points], points))
    return curves("threshold", "What the threshold does (validation photos)", lines, "percent", "threshold")


def suspects(result: Result, images: Path) -> list[tuple[Example, bool]]:
    """The most suspicious labels of the validation photos that the tagger contradicts, and whether each is set."""
    val = result.best.val
    found: list[tuple[Example, bool]] = []
    scores = calibrate(val.scores, result.kept.scale, result.kept.offset)
    is_contrary = (scores >= result.kept.thresholds.values) != (val.labels == 1)
    ranking = rank_suspects(val.scores, val.labels)
    for i, k in zip(ranking.rows.tolist(), ranking.classes.tolist()):
        if is_contrary[i, k] and len(found) < SUSPECTS:
            example = make_example(val, i, k, f"{scores[i, k]:.2f}", images, THUMBNAIL)
            found.append((example, bool(val.labels[i, k] == 1)))
    return found
