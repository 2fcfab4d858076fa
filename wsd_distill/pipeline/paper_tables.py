"""The paper's tables with our results beside the published ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from wsd_distill.report.run_results import RunResults
from wsd_distill.report.tables import Row, Table, markdown_table

from .experiments import COCO, NUS_WIDE, PUBLISHED

NAMES = {"coco_2014": COCO, "nus_wide": NUS_WIDE}  # dataset.name -> name in the paper
_NOT_TRAINED = "not a distillation of this framework and not trained here"
_NOT_PUBLISHED = "not in the paper's table"
_LENGTH = (
    " Students distilled in two stages (S-Cls (w/), FitNets, RoI-aware or NMS proposals transfer) train for the "
    "iterations of both stages, as the row with the epochs of both stages does; the others for those of stage 2."
)
_GAINS = " The datasets differ: compare gains. They are over {}, seed by seed, for the seeds that a row has."
_DIFFERENCES = " Differences are from the published result."


def read_results(training: str, output: Path, seeds: int) -> list[dict[str, float]]:
    """Read the metrics of each seed of a training below ``output``; {} for a missing one."""
    return [RunResults(training, output / f"seed{seed}" / training).metrics for seed in range(seeds)]


def build_tables(commands: Mapping[int, str], output: Path, seeds: int, name: str) -> list[Table]:
    """Build all parts of tables of the paper: its rows, then the unpublished ones.

    Args:
        commands: number of a table -> the command that makes it.
        output: folder of the runs.
        name: name of their dataset.
    """
    tables = []
    ours = f"{name}: test split, mean ± standard deviation of {seeds} seed{'s' if seeds > 1 else ''}"
    for number, command in commands.items():
        for part in PUBLISHED[number]:
            rows = [Row(method, part.rows.get(method, {})) for method in {**part.rows, **part.trainings}]
            for row in rows:
                if row.method in part.trainings:
                    row.ours = read_results(part.trainings[row.method], output, seeds)
                row.note = _NOT_PUBLISHED if not row.published else "" if row.ours else _NOT_TRAINED
            same = name == part.dataset
            caption = f"In percent. Published results: {part.dataset}. Ours: {ours}, or of the seeds given in a row."
            caption += _DIFFERENCES if same else _GAINS.format(part.baseline)
            caption += _LENGTH if len(part.trainings) > 5 else ""
            title, baseline = f"Table {number}, {part.dataset}: {part.title}", "" if same else part.baseline
            tables.append(Table(title, caption, [*part.metrics], rows, baseline, part.dataset, name, command))
    return tables


def write_tables(path: Path, tables: Sequence[Table]) -> str:
    """Write and return the tables as Markdown, each with the command that makes it."""
    text = "\n".join(
        f"## {table.title}\n\n{table.caption}\n\n{markdown_table(table)}\n\n```\n{table.command}\n```\n"
        for table in tables
    )
    path.write_text(text)
    return text
