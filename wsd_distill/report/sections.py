"""The charts of the report's sections, out of runs; what cannot be drawn becomes a sentence."""

from __future__ import annotations

import numpy as np

from .plots import Chart, Curve, Line, class_temperatures, curves, gain_bars
from .runs import Run

MAX_POINTS = 500  # of a curve: as many as the paper has proposals, so that temperatures by rank stay exact
LABELS = {"t_cls": "tᶜ, teacher's classes", "t_student": "t, student's classes", "t_det": "tᵈ, teacher's proposals"}
Section = tuple[list[Chart], list[str]]  # and sentences about what is not drawn


def class_gains(plain: list[Run], distilled: list[Run]) -> Section:
    """Figure 4, over the seeds whose two runs have results."""
    pairs = [(p, d) for p, d in zip(plain, distilled) if p.results and d.results and d.class_names]
    if not pairs:
        return [], ["The gain of each class needs both runs of a seed to be finished: there is none yet."]
    names, counts = pairs[0][1].class_names, pairs[0][1].counts
    precisions = [[[run.results.get(f"AP-{name}", np.nan) for name in names] for run in pair] for pair in pairs]
    gains = np.diff(precisions, axis=1)[:, 0]  # (seeds, K)
    known = np.isfinite(gains).all(axis=0)
    notes = [f"Left out, for no test image holds it: {name}." for name in np.array(names)[~known]]
    kept = [name for name, keep in zip(names, known) if keep]
    return [gain_bars("gains", kept, counts[known], gains[:, known])], notes


def training_curves(runs: dict[str, list[Run]]) -> Section:
    """mAP of all methods in one chart; the losses, and the mean temperatures, of each method in a chart of its own."""
    charts, notes = [], []
    evaluated = _lines({method: (seeds, "test/multilabel/mAP") for method, seeds in runs.items()}, at_least=2)
    if evaluated:
        charts.append(curves("map", "mAP on the test split", evaluated, "mAP in percent"))
    absent = [method for method in runs if method not in {line.label for line in evaluated}]
    if absent:
        notes.append(f"Evaluated once at the most, hence without a curve of mAP: {', '.join(absent)}.")
    for i, (method, seeds) in enumerate(runs.items()):
        losses = list(dict.fromkeys(name for run in seeds for name in run.losses))
        lines = _lines({name: (seeds, name) for name in losses}, at_least=2)
        if lines:
            charts.append(curves(f"loss{i}", f"Losses of {method}", lines, "loss", log=len(lines) > 1))
        else:
            notes.append(f"Too little logged for a curve of losses: {method}.")
        lines = _lines({label: (seeds, f"temperature/{name}") for name, label in LABELS.items()}, at_least=2)
        if lines:
            charts.append(curves(f"mean{i}", f"Mean temperatures of {method}", lines, "temperature"))
    return charts, notes


def learned_temperatures(runs: dict[str, list[Run]]) -> Section:
    """For each method that learns them: t^c and t by class, most frequent first, and t^d by rank of the proposal."""
    charts = []
    for i, (method, seeds) in enumerate(runs.items()):
        learned = _stack([run.temperatures for run in seeds if run.temperatures])
        by_class = {LABELS[name]: learned[name] for name in ("t_cls", "t_student") if name in learned}
        for size in sorted({values.shape[1] for values in by_class.values()}):
            names, order = _classes(seeds, size)
            chosen = {label: values[:, order] for label, values in by_class.items() if values.shape[1] == size}
            charts.append(class_temperatures(f"class{i}-{size}", f"Temperatures of {method}", names, chosen))
        if "t_det" in learned:
            ranks = list(range(1, learned["t_det"].shape[1] + 1))
            line = _line(LABELS["t_det"], [(ranks, values.tolist()) for values in learned["t_det"]])
            title = f"Temperatures of {method} by rank"
            charts.append(curves(f"rank{i}", title, [line], "temperature", "rank of the proposal"))
    return charts, [] if charts else ["No finished run has learned temperatures."]


def _lines(wanted: dict[str, tuple[list[Run], str]], at_least: int) -> list[Line]:
    """Label -> (runs, name of what they log) as lines; those with fewer points than ``at_least`` are left out."""
    lines = []
    for label, (seeds, name) in wanted.items():
        logged = [run.curve(name) for run in seeds]
        lines.append(_line(label, [curve for curve in logged if len(curve[0]) >= at_least]))
    return [line for line in lines if line.curves]


def _line(label: str, seeds: list[Curve]) -> Line:
    values = [dict(zip(*curve)) for curve in seeds]
    common = [x for x in (seeds[0][0] if seeds else []) if all(x in seed for seed in values)]
    mean = [sum(seed[x] for seed in values) / len(values) for x in common]
    return Line(label, [_downsample(*curve) for curve in seeds], _downsample(common, mean) if common else ([], []))


def _downsample(x: list[float], y: list[float]) -> Curve:
    """At most MAX_POINTS points, each the mean of equally many neighbours (the last ones may lack one)."""
    pieces = -(-len(x) // -(-len(x) // MAX_POINTS))
    return tuple([float(part.mean()) for part in np.array_split(np.asarray(values), pieces)] for values in (x, y))


def _stack(seeds: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.stack([seed[name] for seed in seeds]) for name in (seeds[0] if seeds else {})}


def _classes(seeds: list[Run], size: int) -> tuple[list[str], np.ndarray]:
    """Names of temperatures and their order, by frequency where the classes of the test split are known."""
    for run in seeds:
        if len(run.class_names) == size:
            order = np.argsort(-run.counts, kind="stable")
            return [run.class_names[k] for k in order], order
    return ["all classes"] if size == 1 else [f"class {k}" for k in range(size)], np.arange(size)
