"""One HTML page about the runs of a comparison: it holds all that it shows and asks no network for anything."""

from __future__ import annotations

import base64
from datetime import datetime
from pathlib import Path

from jinja2 import Environment, StrictUndefined, Template

import wsd_distill

from .runs import Run
from .sections import MAX_POINTS, class_gains, learned_temperatures, training_curves
from .table import Row, Table, gain_cell, mean_std


def write_report(
    folder: Path,
    *,
    title: str,
    tables: list[Table],
    methods: dict[str, list[Path]],
    plain: str,
    distilled: str,
    pictures: list[Path],
    pictures_caption: str,
) -> Path:
    """Write ``index.html`` in ``folder``; what an unfinished run does not have yet is left out with a sentence.

    Args:
        methods: name -> folders of its runs, one a seed, in the same order for all.
        plain, distilled: the methods whose difference is the gain of each class.
        pictures: PNG files.
    """
    runs = {method: [Run(method, Path(path)) for path in folders] for method, folders in methods.items()}
    every = [run for seeds in runs.values() for run in seeds]
    gains, gain_notes = class_gains(runs[plain], runs[distilled])
    curves, curve_notes = training_curves(runs)
    temperatures, temperature_notes = learned_temperatures(runs)
    missing = [run.missing for run in every if run.missing]
    missing += [f"The picture {path.name} has not been drawn." for path in pictures if not path.exists()]
    html = _template().render(
        title=title,
        written=datetime.now().strftime("%Y-%m-%d %H:%M"),
        version=wsd_distill.__version__,
        missing=missing,
        tables=tables,
        gains=gains[0] if gains else None,
        gain_notes=gain_notes,
        plain=plain,
        distilled=distilled,
        pictures=[_data_uri(path) for path in pictures if path.exists()],
        pictures_caption=pictures_caption,
        curves=curves,
        curve_notes=curve_notes,
        most_points=MAX_POINTS,
        temperatures=temperatures,
        temperature_notes=temperature_notes,
        runs=every,
    )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "index.html"
    path.write_text(html, encoding="utf-8")
    return path


def _template() -> Template:
    """Escapes every text that is put into it; ``ours``, ``addition`` and ``facts`` are functions that it calls."""
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    environment.globals.update(ours=_ours, gain_cell=gain_cell, facts=_facts)
    return environment.from_string(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))


def _ours(row: Row, metric: str) -> str:
    """Our figure in a cell; nothing where there are published figures alone."""
    return "" if row.ours is None else mean_std([seed[metric] for seed in row.ours if metric in seed])


def _facts(run: Run) -> list[str]:
    """What the one line about a run says, so far as it is known."""
    facts = [run.place]
    if run.config:
        facts = [f"seed {run.settings.seed}", f"{run.settings.max_iter} iterations"]
    if "mAP" in run.results:
        facts.append(f"mAP {run.results['mAP']:.1f}")
    if run.duration:
        took = "last start took" if len(run.commands) > 1 else "took"
        facts.append(f"{took} {run.duration}")
    return facts if run.done else [*facts, "not finished"]


def _data_uri(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
