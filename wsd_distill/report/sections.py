"""The charts of the report. Missing charts are explained in sentences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .plots import Chart, Curve, Line, class_temperatures, curves, gain_bars
from .run_results import RunResults

MAX_POINTS = 500  # per curve: the paper's number of proposals, so that temperatures by rank stay exact
LABELS = {"t_cls": "tᶜ, teacher's classes", "t_student": "t, student's classes", "t_det": "tᵈ, teacher's proposals"}


class Section(NamedTuple):
    """Charts, and sentences about what is not shown."""

    charts: list[Chart]
    notes: list[str]


def class_gains(plain: list[RunResults], distilled: list[RunResults]) -> Section:
    """Draw the paper's Figure 4, over the seeds with both results."""
    pairs = [(p, d) for p, d in zip(plain, distilled) if p.metrics and d.metrics and d.scores.class_names]
    if not pairs:
        return Section([], ["Per-class gains need a seed with both runs finished: there is none yet."])
    names, counts = pairs[0][1].scores.class_names, pairs[0][1].counts
    precisions = [[[run.metrics.get(f"AP-{name}", np.nan) for name in names] for run in pair] for pair in pairs]
    gains = np.diff(precisions, axis=1)[:, 0]  # (S, K)
    valid = np.flatnonzero(np.isfinite(gains).all(axis=0))
    absent = [name for k, name in enumerate(names) if k not in valid]
    notes = [f"Left out, because no test image has it: {name}." for name in absent]
    return Section([gain_bars("gains", [names[k] for k in valid], counts[valid], gains[:, valid])], notes)


def training_curves(runs: dict[str, list[RunResults]]) -> Section:
    """Draw mAP of all methods in one chart, and the losses and mean temperatures of each method in one chart each."""
    evaluated = _lines({method: (seeds, "test/multilabel/mAP") for method, seeds in runs.items()})
    charts = [curves("map", "mAP on the test split", evaluated, "mAP in percent")] if evaluated else []
    absent = [method for method in runs if method not in {line.label for line in evaluated}]
    notes = [f"No curve of mAP, because evaluated at most once: {', '.join(absent)}."] if absent else []
    for i, (method, seeds) in enumerate(runs.items()):
        lines = _lines({name: (seeds, name) for run in seeds for name in run.losses})
        if lines:
            charts.append(curves(f"loss{i}", f"Losses of {method}", lines, "loss", log=len(lines) > 1))
        else:
            notes.append(f"No curve of losses, because too little is logged: {method}.")
        lines = _lines({label: (seeds, f"temperature/{name}") for name, label in LABELS.items()})
        if lines:
            charts.append(curves(f"mean{i}", f"Mean temperatures of {method}", lines, "temperature"))
    return Section(charts, notes)


def learned_temperatures(runs: dict[str, list[RunResults]]) -> Section:
    """Draw t^c and t by class, most frequent first, and t^d by rank of the proposal, for each method that has them."""
    charts = []
    for i, (method, seeds) in enumerate(runs.items()):
        by_seed = [run.temperatures for run in seeds if run.temperatures]
        learned = {n: np.stack([seed[n] for seed in by_seed]) for n in LABELS if by_seed and n in by_seed[0]}
        ranks = learned.pop("t_det", None)
        for size in sorted({values.shape[1] for values in learned.values()}):
            names, order = _sorted_classes(seeds, size)
            chosen = {LABELS[name]: v[:, order] for name, v in learned.items() if v.shape[1] == size}
            charts.append(class_temperatures(f"class{i}-{size}", f"Temperatures of {method}", names, chosen))
        if ranks is not None:
            line = _line(LABELS["t_det"], [(range(1, len(seed) + 1), seed.tolist()) for seed in ranks])
            title = f"Temperatures of {method} by rank"
            charts.append(curves(f"rank{i}", title, [line], "temperature", "rank of the proposal"))
    return Section(charts, [] if charts else ["No finished run has learned temperatures."])


def _lines(scalars: dict[str, tuple[list[RunResults], str]]) -> list[Line]:
    """Build a line for each label -> (runs, name of a logged scalar); runs with fewer than two points are left out."""
    logged = {label: [run.curve(name) for run in seeds] for label, (seeds, name) in scalars.items()}
    lines = (_line(label, [curve for curve in seeds if len(curve[0]) > 1]) for label, seeds in logged.items())
    return [line for line in lines if line.curves]


def _line(label: str, seeds: list[Curve]) -> Line:
    values = [dict(zip(*curve)) for curve in seeds]
    common = [x for x in (seeds[0][0] if seeds else []) if all(x in seed for seed in values)]
    mean = [sum(seed[x] for seed in values) / len(values) for x in common]
    return Line(label, [_downsample(*curve) for curve in seeds], _downsample(common, mean) if common else ([], []))


def _downsample(x: Sequence[float], y: Sequence[float]) -> Curve:
    """Average neighbours, so that at most ``MAX_POINTS`` points are left."""
    pieces = -(-len(x) // -(-len(x) // MAX_POINTS))
    xs, ys = ([float(part.mean()) for part in np.array_split(values, pieces)] for values in (x, y))
    return xs, ys


def _sorted_classes(seeds: list[RunResults], size: int) -> tuple[list[str], np.ndarray]:
    """Names of ``size`` temperatures and their order, by frequency if the class names are known."""
    for run in seeds:
        if len(run.scores.class_names) == size:
            order = np.argsort(-run.counts, kind="stable")
            return [run.scores.class_names[k] for k in order], order
    return ["all classes"] if size == 1 else [f"class {k}" for k in range(size)], np.arange(size)
