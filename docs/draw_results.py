#!/usr/bin/env python
"""Draw docs/results/voc5.svg, the bar chart of README.md, from docs/results/voc5.json.

python docs/draw_results.py
"""

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

RESULTS = Path(__file__).parent / "results" / "voc5.json"
COLORS = {"teacher": "#9fb3d1", "gain": "#2f855a", "loss": "#c2410c"}


def draw(results: dict, path: Path) -> None:
    """Draw the gain of each method with its standard deviation; the white background suits dark pages too."""
    methods = results["methods"][::-1]  # barh draws from the bottom
    means, stds = zip(*(method["gain"] for method in methods))
    kinds = ["teacher" if "teacher" in m["name"] else "gain" if m["gain"][0] > 0 else "loss" for m in methods]
    with plt.rc_context({"svg.hashsalt": "voc5", "font.size": 10}):
        figure, axes = plt.subplots(figsize=(8.6, 3.5))
        colors = [COLORS[kind] for kind in kinds]
        axes.barh(range(len(methods)), means, xerr=stds, color=colors, capsize=3, ecolor="#444")
        for row, (mean, std) in enumerate(zip(means, stds)):
            text = f"{mean:+.1f} ± {std:.1f}".replace("-", "\N{MINUS SIGN}")
            axes.text(max(mean + std, 0) + 0.12, row, text, va="center")
        axes.set_yticks(range(len(methods)), [method["name"] for method in methods])
        axes.axvline(0, color="#444", linewidth=0.8)
        axes.set_xlim(-2.5, 6.5)
        axes.set_xlabel("gain in mAP, mean ± standard deviation")
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
        figure.suptitle(results["title"], fontsize=10.5, fontweight="bold")
        figure.tight_layout()
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)


if __name__ == "__main__":
    draw(json.loads(RESULTS.read_text()), Path(sys.argv[1]) if len(sys.argv) > 1 else RESULTS.with_suffix(".svg"))
