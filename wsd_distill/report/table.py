"""Results of several seeds as one Markdown table."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

Results = dict[str, float]


@dataclass
class Row:
    """A method's figures in percent: those of the paper and, one dict of metrics a seed, ours.

    Attributes:
        published: metric -> percent; empty where the paper has none.
        ours: one dict of metrics a seed, an empty one where a seed is missing; None: published figures alone.
    """

    method: str
    published: dict[str, float]
    ours: list[dict[str, float]] | None
    note: str = ""


@dataclass
class Table:
    """Rows under the same metrics."""

    title: str
    caption: str
    metrics: list[str]
    rows: list[Row]


def spread(values: list[float], digits: int = 1) -> str:
    """Mean, and the sample standard deviation where there are several values; "-" for none."""
    if not values:
        return "-"
    text = f"{statistics.mean(values):.{digits}f}"
    return text + (f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else "")


def markdown_table(rows: dict[str, list[Results]], metrics: list[str]) -> str:
    """One row a method, one column a metric, over the seeds of the method.

    Args:
        rows: method -> one dict of metrics for each seed. A metric that a method lacks is shown as "-".
    """
    lines = ["| method | " + " | ".join(metrics) + " |", "|:--|" + "--:|" * len(metrics)]
    for method, seeds in rows.items():
        cells = [spread([seed[metric] for seed in seeds if metric in seed]) for metric in metrics]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def gains(rows: dict[str, list[Results]], metric: str, pairs: list[tuple[str, str]]) -> list[str]:
    """For each pair (better, worse) a sentence with the mean and the spread of the difference, seed by seed."""
    lines = []
    for better, worse in pairs:
        differences = [b[metric] - w[metric] for b, w in zip(rows[better], rows[worse])]
        each = ", ".join(f"{d:+.1f}" for d in differences)
        lines.append(f"{better} minus {worse}: {spread(differences)} {metric} (seed by seed: {each})")
    return lines
