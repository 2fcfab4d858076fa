"""Charts as inline SVG. Text takes the color of the page, so one version serves light and dark mode."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

Curve = tuple[Sequence[float], Sequence[float]]  # x and y

TEXT_COLOR = "#010203"  # replaced by the page's text color; matplotlib leaves plain black out of the SVG
UP, DOWN = "#2a7fd4", "#d9541e"
COLORS = ("#2a7fd4", "#d9541e", "#2a9a5b", "#a663c7", "#b8860b", "#7a8794")  # contrast >= 3 to white and near-black
DASHES = ("solid", "dashed", "dotted")  # one for each cycle through the colors
COLORED = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "grid.color")
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # keep text as text, for screen readers and search
    "svg.hashsalt": "wsd_distill",
    "text.parse_math": False,  # class names may contain $
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.15,
    **dict.fromkeys(COLORED, TEXT_COLOR),
}
METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))


class Line(NamedTuple):
    """A legend entry: one curve per seed, and their mean over the points that all seeds have."""

    label: str
    curves: list[Curve]
    mean: Curve


class Chart(NamedTuple):
    """An SVG, its description in words, and its legend (label, color, dash), drawn by the page."""

    title: str
    svg: str
    alt: str
    legend: Sequence[tuple[str, str, str]] = ()


def render_svg(prefix: str, width: float, height: float, plot: Callable[[Axes], None]) -> str:
    """Render what ``plot`` draws on axes of this size in inches. ``prefix`` makes the ids unique on the page."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        plot(figure.subplots())
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata=METADATA)
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{prefix}-", file.getvalue())
    return svg[svg.index("<svg") :].replace(TEXT_COLOR, "currentColor")


def curves(
    prefix: str, title: str, lines: list[Line], ylabel: str, xlabel: str = "iteration", log: bool = False
) -> Chart:
    """Draw the mean of each line, and faintly its seeds; ``log``: logarithmic y axis."""
    legend = [(line.label, COLORS[i % len(COLORS)], DASHES[i // len(COLORS) % 3]) for i, line in enumerate(lines)]

    def plot(axes: Axes) -> None:
        for line, (_, color, dash) in zip(lines, legend):
            for x, y in line.curves:
                axes.plot(x, y, color=color, linestyle=dash, linewidth=0.7, alpha=0.55)
            axes.plot(*line.mean, color=color, linestyle=dash, marker="." if len(line.mean[0]) < 12 else "")
        if log:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter("{x:g}")  # the default formatter writes TeX
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set(xlabel=xlabel, ylabel=ylabel)

    ends = "; ".join(f"{line.label} ends at {np.mean([y[-1] for _, y in line.curves]):.3g}" for line in lines)
    return Chart(title, render_svg(prefix, 4.4, 2.5, plot), f"{ylabel} over {xlabel}: {ends}.", legend)


def gain_bars(prefix: str, names: list[str], counts: np.ndarray, gains: np.ndarray) -> Chart:
    """Draw Figure 4 with horizontal bars: the gain in AP of each class, most frequent first.

    Args:
        names, counts: of K classes.
        gains: (S, K), of each seed.
    """
    order = np.argsort(-counts, kind="stable")
    labels, names = [f"{names[k]}  ({counts[k]})" for k in order], [names[k] for k in order]
    mean, std = gains[:, order].mean(axis=0), _std(gains[:, order])

    def plot(axes: Axes) -> None:
        rows = np.arange(len(labels))
        axes.barh(rows, mean, color=np.where(mean < 0, DOWN, UP), height=0.7)
        if len(gains) > 1:
            axes.errorbar(mean, rows, xerr=std, fmt="none", ecolor=TEXT_COLOR, elinewidth=0.8, capsize=2)
        for row, value, error in zip(rows, mean, std):
            side, align = (-1, "right") if value < 0 else (1, "left")
            style: dict[str, Any] = {"textcoords": "offset points", "va": "center", "ha": align, "fontsize": 8}
            axes.annotate(_signed(value), (value + side * error, row), (4 * side, 0), **style)
        axes.margins(x=0.14)
        _set_rows(axes, labels, "gain in AP, percentage points", 0)

    low, high = mean.argmin(), mean.argmax()
    alt = f"From {labels[0]} to {labels[-1]} images; largest gain {names[high]} {_signed(mean[high])}, smallest "
    alt += f"{names[low]} {_signed(mean[low])}; {(mean > 0).sum()} of {len(mean)} classes gain."
    return Chart("", render_svg(prefix, 4.6, 0.7 + 0.2 * len(labels), plot), alt)


def class_temperatures(prefix: str, title: str, names: list[str], learned: dict[str, np.ndarray]) -> Chart:
    """Draw learned temperatures, label -> (S, K) of each seed, one row per class."""

    def plot(axes: Axes) -> None:
        for i, values in enumerate(learned.values()):
            rows = np.arange(len(names)) + 0.3 * (i - (len(learned) - 1) / 2)
            std = _std(values) if len(values) > 1 else None
            axes.errorbar(values.mean(axis=0), rows, xerr=std, fmt="o", markersize=4, color=COLORS[i], capsize=2)
        _set_rows(axes, names, "temperature (1 before training)", 1)

    words = []
    for label, mean in ((label, values.mean(axis=0)) for label, values in learned.items()):
        low, high = mean.argmin(), mean.argmax()
        words.append(f"{label} from {mean[low]:.3f} ({names[low]}) to {mean[high]:.3f} ({names[high]})")
    legend = [(label, color, "solid") for label, color in zip(learned, COLORS)]
    return Chart(title, render_svg(prefix, 4.4, 0.7 + 0.22 * len(names), plot), "; ".join(words) + ".", legend)


def _set_rows(axes: Axes, labels: list[str], xlabel: str, neutral: float) -> None:
    """Label one row per class, from the top, and mark the neutral value."""
    axes.axvline(neutral, color=TEXT_COLOR, linewidth=0.8)
    axes.set(xlabel=xlabel, ylim=(len(labels) - 0.4, -0.6))
    axes.set_yticks(range(len(labels)), labels)
    axes.grid(axis="y", visible=False)


def _signed(value: float) -> str:
    return f"{round(float(value), 1) + 0.0:+.1f}"  # + 0.0: no "-0.0"


def _std(values: np.ndarray) -> np.ndarray:
    """(K,) sample standard deviation over the seeds; zeros for a single seed."""
    return values.std(axis=0, ddof=1) if len(values) > 1 else np.zeros(values.shape[1])
