"""Charts as inline SVG whose text has the colour of the page around it: one version for light and dark."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass, field

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

Curve = tuple[list[float], list[float]]  # x and y

TEXT_COLOR = "#010203"  # stands for the page's text colour; plain black would be left out of the SVG
UP, DOWN = "#2a7fd4", "#d9541e"
# All of them stand out from white and from near-black (contrast of 3 and more); dashes carry on where they run out.
COLOURS = ("#2a7fd4", "#d9541e", "#2a9a5b", "#a663c7", "#b8860b", "#7a8794")
DASHES = ("solid", "dashed", "dotted")
STYLE = {
    "svg.fonttype": "none",  # text stays text: it can be read aloud, searched and copied
    "svg.hashsalt": "wsd_distill",
    "text.parse_math": False,  # a class may be called $
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.15,
    **dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "grid.color"), TEXT_COLOR
    ),
}
METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))


@dataclass
class Line:
    """What one legend entry stands for: a curve for each seed, and their mean where all seeds have a point."""

    label: str
    curves: list[Curve]
    mean: Curve


@dataclass
class Chart:
    """An SVG, what it shows in words, and its legend (label, colour, dash), which the page writes below."""

    title: str
    svg: str
    alt: str
    legend: list[tuple[str, str, str]] = field(default_factory=list)


def draw(identity: str, width: float, height: float, paint: Callable[[Axes], None]) -> str:
    """The SVG of what ``paint`` does to the axes.

    Args:
        identity: begins the ids inside, for those of two charts on a page must differ.
        width, height: in inches.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        paint(figure.subplots())
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata=METADATA)
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{identity}-", file.getvalue())
    return svg[svg.index("<svg") :].replace(TEXT_COLOR, "currentColor")


def curves(
    identity: str, title: str, lines: list[Line], ylabel: str, xlabel: str = "iteration", log: bool = False
) -> Chart:
    """The mean of each entry, its seeds in the same colour but faint; ``log`` where sizes are far apart."""
    styles = [(COLOURS[i % len(COLOURS)], DASHES[i // len(COLOURS) % len(DASHES)]) for i in range(len(lines))]

    def paint(axes: Axes) -> None:
        for line, (colour, dash) in zip(lines, styles):
            for x, y in line.curves:
                axes.plot(x, y, color=colour, linestyle=dash, linewidth=0.7, alpha=0.55)
            axes.plot(*line.mean, color=colour, linestyle=dash, marker="." if len(line.mean[0]) < 12 else "")
        if log:
            _log_scale(axes)
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)

    last = [f"{line.label} ends at {np.mean([y[-1] for _, y in line.curves]):.3g}" for line in lines]
    legend = [(line.label, *style) for line, style in zip(lines, styles)]
    return Chart(title, draw(identity, 4.4, 2.5, paint), f"{ylabel} over {xlabel}: {'; '.join(last)}.", legend)


def gain_bars(identity: str, names: list[str], counts: np.ndarray, gains: np.ndarray) -> Chart:
    """Figure 4, lying down so that many names can be read: the gain in AP of each class, most frequent first.

    Args:
        names, counts: of K classes. gains: (S, K), of each seed.
    """
    order = np.argsort(-counts, kind="stable")
    gains, labels = gains[:, order], [f"{names[k]}  ({counts[k]})" for k in order]
    mean, reach = gains.mean(axis=0), _deviation(gains)

    def paint(axes: Axes) -> None:
        rows = np.arange(len(labels))
        axes.barh(rows, mean, color=np.where(mean < 0, DOWN, UP), height=0.7)
        if len(gains) > 1:
            axes.errorbar(mean, rows, xerr=reach, fmt="none", ecolor=TEXT_COLOR, elinewidth=0.8, capsize=2)
        for row, value, far in zip(rows, mean, reach):
            side = -1 if value < 0 else 1
            axes.annotate(
                _signed(value), (value + side * far, row), (4 * side, 0), textcoords="offset points", va="center",
                ha="left" if side > 0 else "right", fontsize=8,
            )  # fmt: skip
        axes.margins(x=0.14)
        axes.axvline(0, color=TEXT_COLOR, linewidth=0.8)
        axes.set_xlabel("gain in AP, percentage points")
        _rows_of_classes(axes, labels)

    words = (
        f"From {labels[0]} to {labels[-1]} images; largest gain {names[order[mean.argmax()]]} {_signed(mean.max())}, "
    )
    words += (
        f"smallest {names[order[mean.argmin()]]} {_signed(mean.min())}; {(mean > 0).sum()} of {len(mean)} classes gain."
    )
    return Chart("", draw(identity, 4.6, 0.7 + 0.2 * len(labels), paint), words)


def class_temperatures(identity: str, title: str, names: list[str], learned: dict[str, np.ndarray]) -> Chart:
    """Learned temperatures of each class, a row a class in the order given.

    Args:
        learned: legend -> (S, K), of each seed.
    """

    def paint(axes: Axes) -> None:
        for i, values in enumerate(learned.values()):
            rows = np.arange(len(names)) + 0.3 * (i - (len(learned) - 1) / 2)
            reach = _deviation(values) if len(values) > 1 else None
            axes.errorbar(values.mean(axis=0), rows, xerr=reach, fmt="o", markersize=4, color=COLOURS[i], capsize=2)
        axes.axvline(1, color=TEXT_COLOR, linewidth=0.8)
        axes.set_xlabel("temperature (1 before training)")
        _rows_of_classes(axes, names)

    words = [_extremes(label, names, values.mean(axis=0)) for label, values in learned.items()]
    legend = [(label, colour, "solid") for label, colour in zip(learned, COLOURS)]
    return Chart(title, draw(identity, 4.4, 0.7 + 0.22 * len(names), paint), "; ".join(words) + ".", legend)


def _log_scale(axes: Axes) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")  # the usual powers of ten are written in TeX
    axes.yaxis.set_minor_formatter(NullFormatter())


def _rows_of_classes(axes: Axes, labels: list[str]) -> None:
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)


def _signed(value: float) -> str:
    return f"{round(float(value), 1) + 0.0:+.1f}"  # + 0.0: no "-0.0"


def _deviation(values: np.ndarray) -> np.ndarray:
    """(K,) sample standard deviation over the seeds; zeros where there is one."""
    return values.std(axis=0, ddof=1) if len(values) > 1 else np.zeros(values.shape[1])


def _extremes(label: str, names: list[str], mean: np.ndarray) -> str:
    low, high = mean.argmin(), mean.argmax()
    return f"{label} from {mean[low]:.3f} ({names[low]}) to {mean[high]:.3f} ({names[high]})"
