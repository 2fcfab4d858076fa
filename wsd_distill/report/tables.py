"""Tables of published results and ours."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field

MARKS = "†‡§¶"


@dataclass
class Row:
    """Results of a method."""

    method: str
    published: dict[str, float] = field(default_factory=dict)  # metric -> percent
    ours: list[dict[str, float]] = field(default_factory=list)  # metrics of each seed, {} for a missing one
    note: str = ""  # footnote; rows with the same text share a mark

    def values(self, metric: str) -> list[float]:
        return [seed[metric] for seed in self.ours if metric in seed]


@dataclass
class Table:
    """Methods and metrics."""

    title: str
    caption: str
    metrics: list[str]
    rows: list[Row]
    baseline: str = ""  # method that gains refer to; "": published results are of the same dataset, show differences
    published: str = ""  # dataset of the published results
    dataset: str = ""  # of ours
    command: str = ""  # that makes the table

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
    pairs = zip(row.ours, baseline.ours)
    return [ours[metric] - base[metric] for ours, base in pairs if metric in ours and metric in base]


def gain_cell(table: Table, row: Row, metric: str) -> str:
    """Format our gain over the baseline, or without one our difference from the published result; "" if undefined."""
    values, gains = row.values(metric), []
    if table.base and row is not table.base:
        gains = seed_gains(row, table.base, metric)
    elif not table.base and values and metric in row.published:
        gains = [statistics.mean(values) - row.published[metric]]
    return mean_std(gains, "+") if gains else ""


def markdown_table(table: Table) -> str:
    """Format a row per method, with published result, mean and standard deviation of ours, and gains."""
    published, ours = "published", "ours (difference)"
    if table.base:
        published, ours = f"{table.published} (gain)", f"{table.dataset} (gain)"
    is_published = {metric: any(metric in row.published for row in table.rows) for metric in table.metrics}
    notes = list(dict.fromkeys(row.note for row in table.rows if row.note))
    head = ["method"]
    for metric in table.metrics:
        head += [f"{metric}, {published}", f"{metric}, {ours}"] if is_published[metric] else [metric]
    lines = [head, [":--"] + ["--:"] * (len(head) - 1)]
    for row in table.rows:
        done = sum(map(bool, row.ours))
        mark = f" {MARKS[notes.index(row.note)]}" if row.note else ""
        cells = [row.method + mark + (f" ({done} of {len(row.ours)} seeds)" if 0 < done < len(row.ours) else "")]
        for metric in table.metrics:
            if is_published[metric]:
                cells.append(_published_cell(row, table.base, metric))
            gain = gain_cell(table, row, metric)
            cells.append(mean_std(row.values(metric)) + (f" ({gain})" if gain else ""))
        lines.append(cells)
    text = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return text + "".join(f"\n\n{mark} {note}" for mark, note in zip(MARKS, notes))


def _published_cell(row: Row, base: Row | None, metric: str) -> str:
    value = row.published.get(metric)
    if value is None:
        return "-"
    if base is None or row is base or metric not in base.published:
        return f"{value:.1f}"
    return f"{value:.1f} ({value - base.published[metric]:+.1f})"


def describe_gains(table: Table, metric: str, pairs: list[tuple[str, str]]) -> list[str]:
    """Describe in a sentence the mean and standard deviation of the gain for each pair (better, worse) of methods."""
    rows, lines = {row.method: row for row in table.rows}, []
    for better, worse in pairs:
        gains = seed_gains(rows[better], rows[worse], metric)
        if gains:
            each = ", ".join(f"{gain:+.1f}" for gain in gains)
            lines.append(f"{better} minus {worse}: {mean_std(gains)} {metric} (seed by seed: {each})")
    return lines
