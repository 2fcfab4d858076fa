"""The report of ``wsd train``: what the tagger can do, for someone who has not read the paper."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

import wsd_distill
from wsd_distill.audit.ranking import rank_suspects
from wsd_distill.evaluation.decisions import calibrate
from wsd_distill.evaluation.metrics import average_precisions, f1_scores
from wsd_distill.evaluation.scores import Scores
from wsd_distill.io import atomic_write
from wsd_distill.pipeline.budget import CANDIDATES, describe_time
from wsd_distill.pipeline.candidate_runs import Skipped

from .graphs import BEGIN, END
from .plots import Chart, Line, curves
from .templates import render_page
from .thumbnails import make_thumbnail

if TYPE_CHECKING:  # the pipeline assembles, the report only shows
    from wsd_distill.pipeline.budget import Plan
    from wsd_distill.pipeline.tagger_training import Result

EXAMPLES = 8  # photos of each kind
SUSPECTS = 12


class ClassRow(NamedTuple):
    """A class in the table; values in percent, nan where no test photo has the class."""

    name: str
    photos: int
    precision: tuple[float, float, float]  # AP with its interval
    gain: float  # of AP on val, over plain fine-tuning
    found: float  # recall
    right: float  # precision
    threshold: float


class Example(NamedTuple):
    """A test photo with what the tagger says, and what its tags say."""

    data: str  # JPEG in base64
    file: str
    label: str
    probability: float
    tags: str


def write_tagger_page(path: Path, name: str, result: Result, plan: Plan, images: Path) -> Path:
    """Write the page, in one file that loads nothing from the network; ``images`` is the folder of the photos."""
    test, thresholds = result.test, result.thresholds.values
    predicted, positive = test.scores >= thresholds, test.labels == 1
    examples = {  # title -> photos, with a label each
        "Right": _pick(test, predicted & positive, test.scores, images),
        "Wrong, or a missing tag": _pick(test, predicted & (test.labels == 0), test.scores, images),
        "Not found": _pick(test, ~predicted & positive, 1 - test.scores, images),
    }
    html = render_page(
        Path(__file__).with_name("tagger_page.html"),
        name=name,
        version=wsd_distill.__version__,
        written=datetime.now().strftime("%Y-%m-%d %H:%M"),
        result=result,
        plan=plan,
        left_out=[*result.skipped, *_list_unplanned(plan)],
        rows=class_rows(result),
        describe_time=describe_time,
        chart=threshold_chart(result.best.val, result.scale, result.offset),
        examples=examples,
        suspects=suspects(result, images),
        graphs=BEGIN + END,
    )
    with atomic_write(path) as tmp_path:
        tmp_path.write_text(html, encoding="utf-8")
    return path


def _list_unplanned(plan: Plan) -> list[Skipped]:
    """List the candidates that the plan does not have."""
    reason = "by the measured time of a step, they do not fit into --budget"
    return [Skipped(candidate, reason) for candidate in CANDIDATES if candidate not in plan.candidates]


def class_rows(result: Result) -> list[ClassRow]:
    """Rows of all classes, the most frequent in test first."""
    test, values = result.test, result.thresholds.values
    predicted, known = test.scores >= values, test.labels >= 0
    positive = test.labels == 1
    hits = (predicted & positive).sum(0)
    plain, best = (average_precisions(x.val.scores, x.val.labels) for x in (result.outcomes[0], result.best))
    with np.errstate(invalid="ignore"):
        recall, precision = 100 * hits / positive.sum(0), 100 * hits / (predicted & known).sum(0)
    columns = zip(test.class_names, positive.sum(0), result.classes, 100 * (best - plain), recall, precision, values)
    rows = [ClassRow(n, int(count), ap, *map(float, rest)) for n, count, ap, *rest in columns]
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
    """The most suspicious labels of the validation photos by the tagger, and whether each is among the tags."""
    val = result.best.val
    scores, found = calibrate(val.scores, result.scale, result.offset), []
    ranking = rank_suspects(val.scores, val.labels, SUSPECTS)
    for i, k in zip(ranking.rows.tolist(), ranking.classes.tolist()):
        found.append((_example(val, i, k, scores[i, k], images), bool(val.labels[i, k] == 1)))
    return found


def _pick(test: Scores, chosen: np.ndarray, rank: np.ndarray, images: Path) -> list[Example]:
    """The ``chosen`` (N, K) labels with the highest ``rank``: at most one of a photo and two of a class."""
    examples: list[Example] = []
    photos: set[int] = set()
    per_class = np.zeros(rank.shape[1], dtype=int)
    rank = np.where(chosen, rank, -1.0)
    for i, k in zip(*np.unravel_index(np.argsort(-rank, axis=None, kind="stable"), rank.shape)):
        if rank[i, k] < 0 or len(examples) == EXAMPLES or test.image_ids is None:
            break
        if i in photos or per_class[k] == 2:
            continue
        photos.add(int(i))
        per_class[k] += 1
        examples.append(_example(test, i, k, test.scores[i, k], images))
    return examples


def _example(found: Scores, i: int, k: int, probability: float, images: Path) -> Example:
    tags = ", ".join(found.class_names[j] for j in np.flatnonzero(found.labels[i] == 1)) or "no tag"
    file = "" if found.image_ids is None else str(found.image_ids[i])
    data = make_thumbnail(str(images / file)) or ""
    return Example(data, file, found.class_names[k], float(probability), tags)
