"""Tables of published results and ours."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

MARKS = "†‡§¶"


@dataclass
class Row:
    """Results of a method."""

    method: str
    published: dict[str, float]  # metric -> percent; empty if the paper has none
    ours: list[dict[str, float]] | None  # metrics of each seed, empty for a missing one; None: published results only
    note: str = ""  # footnote; rows with the same text share a mark

    def values(self, metric: str) -> list[float]:
        return [seed[metric] for seed in self.ours or [] if metric in seed]


@dataclass
class Table:
    """Methods and metrics."""

    title: str
    caption: str
    metrics: list[str]
    rows: list[Row]
    baseline: str = ""  # method that gains refer to; "": published results are of the same dataset, show differences
    published: str = ""  # dataset of the published results

    @property
    def base(self) -> Row | None:
        return next((row for row in self.rows if row.method == self.baseline), None)


def mean_std(values: list[float], sign: str = "") -> str:
    """Format the mean, signed if ``sign`` is "+", and the sample standard deviation of several values; "-" if none."""
    if not values:
        return "-"
    return f"{statistics.mean(values):{sign}.1f}" + (f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else "")


def seed_gains(row: Row, baseline: Row, metric: str) -> list[float]:
    """Gains over ``baseline`` of each seed that both have."""
    pairs = zip(row.ours or [], baseline.ours or [])
    return [ours[metric] - base[metric] for ours, base in pairs if metric in ours and metric in base]


def gain_cell(table: Table, row: Row, metric: str) -> str:
    """Format our gain over the baseline, or without one our difference from the published result; "" if undefined."""
    values = row.values(metric)
    if table.base:
        gains = [] if row is table.base else seed_gains(row, table.base, metric)
    else:
        gains = [statistics.mean(values) - row.published[metric]] if values and metric in row.published else []
    return mean_std(gains, "+") if gains else ""


def markdown_table(table: Table, published: str = "", ours: str = "") -> str:
    """Format a row per method, with published result, mean and standard deviation of ours, and gains.

    Args:
        published, ours: the datasets, for the head.
    """
    heads = [f"{published} (gain)", f"{ours} (gain)"] if table.base else ["published", "ours (difference)"]
    columns = [(metric, any(metric in row.published for row in table.rows)) for metric in table.metrics]
    head = ["method"]
    for metric, is_published in columns:
        head += [f"{metric}, {text}" for text in heads] if is_published else [metric]
    notes = list(dict.fromkeys(row.note for row in table.rows if row.note))
    lines = [head, [":--"] + ["--:"] * (len(head) - 1)]
    for row in table.rows:
        cells = [_method_cell(row, notes)]
        for metric, is_published in columns:
            cells += [_published_cell(row, table.base, metric)] if is_published else []
            gain = gain_cell(table, row, metric)
            cells.append(mean_std(row.values(metric)) + (f" ({gain})" if gain else ""))
        lines.append(cells)
    text = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return text + "".join(f"\n\n{mark} {note}" for mark, note in zip(MARKS, notes))


def _method_cell(row: Row, notes: list[str]) -> str:
    mark = f" {MARKS[notes.index(row.note)]}" if row.note else ""
    done = sum(map(bool, row.ours or []))
    return row.method + mark + (f" ({done} of {len(row.ours)} seeds)" if row.ours and 0 < done < len(row.ours) else "")


def _published_cell(row: Row, base: Row | None, metric: str) -> str:
    if metric not in row.published:
        return "-"
    has_gain = base and row is not base and metric in base.published
    gain = f" ({row.published[metric] - base.published[metric]:+.1f})" if has_gain else ""
    return f"{row.published[metric]:.1f}{gain}"


def describe_gains(table: Table, metric: str, pairs: list[tuple[str, str]]) -> list[str]:
    """Describe in a sentence the mean and standard deviation of the gain for each pair (better, worse) of methods."""
    rows, lines = {row.method: row for row in table.rows}, []
    for better, worse in pairs:
        gains = seed_gains(rows[better], rows[worse], metric)
        if gains:
            each = ", ".join(f"{gain:+.1f}" for gain in gains)
            lines.append(f"{better} minus {worse}: {mean_std(gains)} {metric} (seed by seed: {each})")
    return lines
