"""The paper's tables with our figures beside its own, from the folders of finished runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from wsd_distill.report.runs import Run
from wsd_distill.report.table import Row, Table, markdown_table

from .published import COCO, NUS_WIDE, PUBLISHED, PublishedTable
from .recipes import ROWS

NAMES = {"coco": COCO, "nus_wide": NUS_WIDE}  # folder of configs -> the paper's name of the dataset
_ALONE = "not a distillation of this framework and not trained here"
_OURS = "not in the paper's table"
_ITERATIONS = (
    " Students that are distilled in two stages (S-Cls (w/), FitNets, RoI-aware or NMS proposals transfer) train for "
    "the iterations of both, as the row with the epochs of both stages does; the others for those of stage 2."
)
_GAIN = (
    " Compare gains, not figures: they are of different datasets. A gain is over {baseline}, seed by seed, of the "
    "seeds that a row has."
)
_DIFFERENCE = " The difference is from the published figure."


def read_row(method: str, run: str, output: Path, seeds: int) -> Row:
    """Of a method as the seeds of ``run`` below ``output`` have it."""
    return Row(method, {}, [Run(method, output / f"seed{seed}" / run).results for seed in range(seeds)])


def build_table(number: int, published: PublishedTable, output: Path, seeds: int, name: str) -> Table:
    """The paper's rows in the paper's order, then ours; ``name``: of our dataset."""
    runs = ROWS[number]
    rows = []
    for method in [*published.rows, *(method for method in runs if method not in published.rows)]:
        row = read_row(method, runs[method], output, seeds) if method in runs else Row(method, {}, None, _ALONE)
        row.published = published.figures(method)
        row.note = row.note if row.published else _OURS
        rows.append(row)
    remark = _DIFFERENCE if name == published.dataset else _GAIN.format(baseline=published.baseline)
    ours = f"{name}: test split, mean ± standard deviation of {seeds} seed{'s' if seeds > 1 else ''}"
    caption = f"In percent. Published figures are of {published.dataset}, ours of {ours}, or as a row says.{remark}"
    caption += _ITERATIONS if len(runs) > 5 else ""
    baseline = "" if name == published.dataset else published.baseline
    title = f"Table {number}, {published.dataset}: {published.title}"
    return Table(title, caption, list(published.metrics), rows, baseline, published.dataset)


def build_tables(numbers: Sequence[int], output: Path, seeds: int, name: str) -> list[Table]:
    """All parts of these tables of the paper."""
    return [
        build_table(number, published, output, seeds, name) for number in numbers for published in PUBLISHED[number]
    ]


def write_tables(path: Path, tables: Sequence[Table], name: str, commands: Sequence[str]) -> str:
    """All tables as Markdown, each with the command that makes it, to a file; also returned."""
    sections = []
    for table, command in zip(tables, commands):
        text = markdown_table(table, table.published, name)
        sections.append(f"## {table.title}\n\n{table.caption}\n\n{text}\n\n```\n{command}\n```\n")
    whole = "\n".join(sections)
    path.write_text(whole)
    return whole
