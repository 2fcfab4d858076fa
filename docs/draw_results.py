#!/usr/bin/env python
"""Draw docs/results/photos.svg, the chart of README.md, from docs/results/photos.json.

python docs/draw_results.py
"""

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

RESULTS = Path(__file__).parent / "results" / "photos.json"
COLORS = {"teacher": "#64748b", "student": "#2f855a", "plain": "#c2410c"}


def draw(results: dict, path: Path) -> None:
    """Draw mAP with its standard deviation, one panel for each dataset; the white background suits dark pages too."""
    with plt.rc_context({"svg.hashsalt": "photos", "font.size": 10}):
        heights = [len(rows) + 1 for rows in results.values()]
        figure, panels = plt.subplots(len(results), figsize=(8.6, 0.42 * sum(heights)), height_ratios=heights)
        for axes, (dataset, rows) in zip(panels, results.items()):
            _draw_panel(axes, dataset, rows)
        panels[-1].set_xlabel("mAP on test photos, mean ± standard deviation of the seeds")
        figure.tight_layout()
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)


def _draw_panel(axes: plt.Axes, dataset: str, rows: list[dict]) -> None:
    rows = rows[::-1]  # the first one at the top
    for y, row in enumerate(rows):
        mean, std = row["mAP"]
        axes.errorbar(mean, y, xerr=std, fmt="o", color=COLORS[row["kind"]], capsize=3)
        axes.annotate(f"{mean:.1f} ± {std:.1f}", (mean + std, y), (8, 0), textcoords="offset points", va="center")
    plain = next(row["mAP"][0] for row in rows if row["kind"] == "plain")
    axes.axvline(plain, color=COLORS["plain"], linewidth=0.8, linestyle=":")
    axes.set_yticks(range(len(rows)), [row["name"] for row in rows])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlim(right=axes.get_xlim()[1] + 0.25 * (axes.get_xlim()[1] - axes.get_xlim()[0]))
    axes.set_title(dataset, loc="left", fontsize=10, fontweight="bold")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)


if __name__ == "__main__":
    draw(json.loads(RESULTS.read_text()), Path(sys.argv[1]) if len(sys.argv) > 1 else RESULTS.with_suffix(".svg"))
