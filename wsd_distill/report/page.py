"""An HTML page about the runs of a comparison, in one file that loads nothing from the network."""

from __future__ import annotations

import base64
from datetime import datetime
from pathlib import Path

import wsd_distill

from .run_results import RunResults
from .sections import MAX_POINTS, class_gains, learned_temperatures, training_curves
from .tables import Table, gain_cell, mean_std
from .templates import render_page


def write_report(
    folder: Path,
    *,
    title: str,
    tables: list[Table],
    methods: dict[str, list[Path]],
    plain: str,
    distilled: str,
    figure: Path,
) -> Path:
    """Write ``index.html`` in ``folder``. Results that do not exist yet are listed as missing.

    Args:
        methods: name -> folders of its runs, one per seed, in the same order for all methods.
        plain, distilled: the methods that per-class gains compare.
        figure: a PNG of :func:`.draw_scenes`.
    """
    runs = {method: [RunResults(method, folder) for folder in folders] for method, folders in methods.items()}
    all_runs = [run for seeds in runs.values() for run in seeds]
    missing = [run.missing for run in all_runs if run.missing]
    missing += [] if figure.exists() else [f"The figure {figure.name} is not drawn yet."]
    html = render_page(
        Path(__file__).with_name("page.html"),
        mean_std=mean_std,
        gain_cell=gain_cell,
        describe_run=_describe_run,
        title=title,
        written=datetime.now().strftime("%Y-%m-%d %H:%M"),
        version=wsd_distill.__version__,
        missing=missing,
        tables=tables,
        plain=plain,
        distilled=distilled,
        gains=class_gains(runs[plain], runs[distilled]),
        figure=base64.b64encode(figure.read_bytes()).decode() if figure.exists() else "",
        curves=training_curves(runs),
        max_points=MAX_POINTS,
        temperatures=learned_temperatures(runs),
        runs=all_runs,
    )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "index.html"
    path.write_text(html, encoding="utf-8")
    return path


def _describe_run(run: RunResults) -> list[str]:
    """Facts about a run, for its headline."""
    facts = [run.label]
    if run.config:
        iterations = run.settings.get("max_iter")  # a saved config may have epochs only
        length = f"{iterations} iterations" if iterations else f"{run.settings.epochs:g} epochs"
        facts = [f"seed {run.settings.seed}", length]
    if "mAP" in run.metrics:
        chance = f" (chance {run.metrics['mAP-chance']:.1f})" if "mAP-chance" in run.metrics else ""
        facts.append(f"mAP {run.metrics['mAP']:.1f}{chance}")
    if run.duration:
        facts.append(f"{'last start took' if len(run.commands) > 1 else 'took'} {run.duration}")
    return facts if run.done else [*facts, "not finished"]
