"""Figures of the paper and of our seeds as one Markdown table."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

MARKS = "†‡§¶"


@dataclass
class Row:
    """A method of a table.

    Attributes:
        published: metric -> percent; empty where the paper has none.
        ours: one dict of metrics a seed, an empty one where a seed is missing; None: published figures alone.
        note: what a mark behind the method leads to, the same for all rows that share it.
    """

    method: str
    published: dict[str, float]
    ours: list[dict[str, float]] | None
    note: str = ""


@dataclass
class Table:
    """Rows under the same metrics.

    Attributes:
        published: the dataset of the published figures.
        baseline: the method from which gains are counted, published and ours, since figures of different datasets do
            not compare; "": they are of one dataset, and ours have the difference from the published one.
    """

    title: str
    caption: str
    metrics: list[str]
    rows: list[Row]
    baseline: str = ""
    published: str = ""

    @property
    def base(self) -> Row | None:
        return next((row for row in self.rows if row.method == self.baseline), None)


def mean_std(values: list[float], sign: str = "", digits: int = 1) -> str:
    """Mean, with ``sign="+"`` always signed, and the sample standard deviation where there are several values.

    "-" for none.
    """
    if not values:
        return "-"
    text = f"{statistics.mean(values):{sign}.{digits}f}"
    return text + (f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else "")


def differences(row: Row, baseline: Row, metric: str) -> list[float]:
    """Seed by seed, over the seeds that both have."""
    pairs = zip(row.ours or [], baseline.ours or [])
    return [ours[metric] - theirs[metric] for ours, theirs in pairs if metric in ours and metric in theirs]


def markdown_table(table: Table, published: str = "", ours: str = "") -> str:
    """One row a method; for each metric what was published, where anything was, and the mean and spread of our seeds.

    Args:
        published, ours: the datasets of these figures, for the head.
    """
    base = table.base
    notes = list(dict.fromkeys(row.note for row in table.rows if row.note))
    both = {metric: any(metric in row.published for row in table.rows) for metric in table.metrics}
    head = ["method"]
    for metric, has_published in both.items():
        heads = [f"{published} (gain)", f"{ours} (gain)"] if base else ["published", "ours (difference)"]
        head += [f"{metric}, {which}" for which in heads] if has_published else [metric]
    lines = [head, [":--"] + ["--:"] * (len(head) - 1)]
    for row in table.rows:
        cells = [_method_cell(row, notes)]
        for metric, has_published in both.items():
            cells += [_published_cell(row, base, metric)] if has_published else []
            cells.append(_our_cell(table, row, metric))
        lines.append(cells)
    text = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return text + "".join(f"\n\n{mark} {note}" for mark, note in zip(MARKS, notes))


def _method_cell(row: Row, notes: list[str]) -> str:
    """With the mark of its note, and how many seeds there are where some are missing."""
    mark = f" {MARKS[notes.index(row.note)]}" if row.note else ""
    there = sum(map(bool, row.ours or []))
    return row.method + mark + (f" ({there} of {len(row.ours)} seeds)" if 0 < there < len(row.ours) else "")


def _published_cell(row: Row, base: Row | None, metric: str) -> str:
    if metric not in row.published:
        return "-"
    value = f"{row.published[metric]:.1f}"
    if base is None or row is base or metric not in base.published:
        return value
    return f"{value} ({row.published[metric] - base.published[metric]:+.1f})"


def gain_cell(table: Table, row: Row, metric: str) -> str:
    """Of our figure: its gain over the baseline, or, without one, its difference from the published; "" for neither."""
    base = table.base
    if base is not None:
        values = [] if row is base else differences(row, base, metric)
    elif metric in row.published:
        ours = [seed[metric] for seed in row.ours or [] if metric in seed]
        values = [statistics.mean(ours) - row.published[metric]] if ours else []
    else:
        values = []
    return mean_std(values, "+") if values else ""


def _our_cell(table: Table, row: Row, metric: str) -> str:
    text = mean_std([seed[metric] for seed in row.ours or [] if metric in seed])
    added = gain_cell(table, row, metric)
    return f"{text} ({added})" if added else text


def gains(table: Table, metric: str, pairs: list[tuple[str, str]]) -> list[str]:
    """For each pair (better, worse) of methods a sentence with the mean and the spread of the gain, seed by seed."""
    rows, lines = {row.method: row for row in table.rows}, []
    for better, worse in pairs:
        gain = differences(rows[better], rows[worse], metric)
        if gain:
            each = ", ".join(f"{d:+.1f}" for d in gain)
            lines.append(f"{better} minus {worse}: {mean_std(gain)} {metric} (seed by seed: {each})")
    return lines
