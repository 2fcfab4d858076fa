"""The paper's tables with our results beside the published ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from wsd_distill.report.run_results import RunResults
from wsd_distill.report.tables import Row, Table, markdown_table

from .published import COCO, NUS_WIDE, PUBLISHED, PublishedTable

NAMES = {"coco_2014": COCO, "nus_wide": NUS_WIDE}  # dataset.name -> name in the paper
_NOT_TRAINED = "not a distillation of this framework and not trained here"
_NOT_PUBLISHED = "not in the paper's table"
_LENGTH = (
    " Students distilled in two stages (S-Cls (w/), FitNets, RoI-aware or NMS proposals transfer) train for the "
    "iterations of both stages, as the row with the epochs of both stages does; the others for those of stage 2."
)
_GAINS = " The datasets differ: compare gains. They are over {}, seed by seed, for the seeds that a row has."
_DIFFERENCES = " Differences are from the published result."


def read_row(method: str, training: str, output: Path, seeds: int) -> Row:
    """Read the results of a training below ``output``."""
    return Row(method, {}, [RunResults(method, output / f"seed{seed}" / training).metrics for seed in range(seeds)])


def build_table(number: int, published: PublishedTable, output: Path, seeds: int, name: str) -> Table:
    """Build a table of the paper's rows, then the unpublished ones.

    Args:
        output: folder of the runs. name: name of their dataset.
    """
    trainings, rows = published.trainings, []
    for method in {**published.rows, **trainings}:
        trained = method in trainings
        row = read_row(method, trainings[method], output, seeds) if trained else Row(method, {}, None, _NOT_TRAINED)
        row.published = published.rows.get(method, {})
        row.note = row.note if row.published else _NOT_PUBLISHED
        rows.append(row)
    same = name == published.dataset
    ours = f"{name}: test split, mean ± standard deviation of {seeds} seed{'s' if seeds > 1 else ''}"
    caption = f"In percent. Published results: {published.dataset}. Ours: {ours}, or of the seeds given in a row."
    caption += (_DIFFERENCES if same else _GAINS.format(published.baseline)) + (_LENGTH if len(trainings) > 5 else "")
    title = f"Table {number}, {published.dataset}: {published.title}"
    return Table(title, caption, [*published.metrics], rows, "" if same else published.baseline, published.dataset)


def build_tables(numbers: Sequence[int], output: Path, seeds: int, name: str) -> list[Table]:
    """Build all parts of these tables of the paper."""
    return [build_table(number, part, output, seeds, name) for number in numbers for part in PUBLISHED[number]]


def write_tables(path: Path, tables: Sequence[Table], name: str, commands: Mapping[int, str]) -> str:
    """Write and return the tables as Markdown, each with the command that makes it.

    Args:
        name: name of our dataset. commands: number of a table -> command.
    """
    lines = (command for number, command in commands.items() for _ in PUBLISHED[number])
    sections = []
    for table, command in zip(tables, lines):
        text = markdown_table(table, table.published, name)
        sections.append(f"## {table.title}\n\n{table.caption}\n\n{text}\n\n```\n{command}\n```\n")
    path.write_text("\n".join(sections))
    return "\n".join(sections)
