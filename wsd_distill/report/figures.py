"""The paper's Figure 3: images with T-WDet's boxes and the labels of each student."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

# The paper's blue and red, and grey for ignored classes. Signs distinguish them without color.
MARKS = {1: ("✓", "#1f4fd8"), 0: ("✗", "#d0312d"), -1: ("~", "#777777")}


def choose_scenes(scores: list[np.ndarray], count: int, seed: int = 0) -> np.ndarray:
    """Draw random indices of images, first of those whose top-3 classes differ between the two students.

    Args:
        scores: (N, K) of each student.
    """
    first, second = (np.sort(np.argsort(-s, axis=1)[:, :3], axis=1) for s in scores)
    same = (first == second).all(axis=1)
    shuffled = np.random.default_rng(seed).permutation(len(same))
    return np.sort(shuffled[np.argsort(same[shuffled], kind="stable")][:count])


def draw_scenes(path: str | os.PathLike, scenes: list[dict], students: list[str], class_names: list[str]) -> None:
    """Write a PNG with a cell per image.

    Args:
        scenes: dicts with ``image`` (H, W, 3) uint8 RGB, ``boxes`` (R, 4) XYXY in pixels, most confident first,
            ``labels`` (K,) of 1, 0 or -1, and ``scores``, (K,) of each student.
        students: names of the students, in the order of ``scores``.
    """
    columns = min(3, len(scenes))
    rows = -(-len(scenes) // columns)
    grid = {"width_ratios": [1, 1.5] * columns}
    size = (5.4 * columns, 2.2 * rows + 0.4)
    figure = Figure(figsize=size)
    axes = figure.subplots(rows, columns * 2, squeeze=False, gridspec_kw=grid)
    for axis in axes.flat:
        axis.axis("off")
    for scene, image_axis, text_axis in zip(scenes, axes[:, ::2].flat, axes[:, 1::2].flat):
        image_axis.imshow(scene["image"], interpolation="nearest")
        for rank, (x0, y0, x1, y1) in enumerate(scene["boxes"]):
            box = Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor="#35e02f", linewidth=2.2 - 0.3 * rank)
            image_axis.add_patch(box)
        _write_labels(text_axis, scene, students, class_names)
    title = "T-WDet's most confident boxes; top-3 labels of each model: ✓ blue right, ✗ red wrong"
    figure.suptitle(title, fontsize=10)
    figure.subplots_adjust(left=0.01, right=0.99, bottom=0.02, top=1 - 0.4 / size[1], wspace=0.06, hspace=0.06)
    figure.savefig(path, dpi=110)


def _write_labels(axis: Axes, scene: dict, students: list[str], class_names: list[str]) -> None:
    style: dict[str, Any] = {"va": "top", "transform": axis.transAxes}
    truth = ", ".join(class_names[k] for k in np.flatnonzero(scene["labels"] == 1))
    axis.text(0, 1, f"truth: {truth}", fontsize=8, wrap=True, **style)
    for x, name, scores in zip((0, 0.54), students, scene["scores"]):
        axis.text(x, 0.74, name, fontsize=9, weight="bold", **style)
        for rank, k in enumerate(np.argsort(-scores)[:3]):
            sign, color = MARKS[int(scene["labels"][k])]
            text = f"{sign} {class_names[k]} {scores[k]:.2f}"
            axis.text(x, 0.58 - 0.17 * rank, text, fontsize=9, color=color, **style)
