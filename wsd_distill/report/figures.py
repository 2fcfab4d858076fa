"""The paper's Figure 3: scenes with T-WDet's boxes, and what each student makes of them."""

from __future__ import annotations

import os

import numpy as np

# The paper's blue and red, and grey for what counts neither way; signs tell them apart without colour.
MARKS = {1: ("✓", "#1f4fd8"), 0: ("✗", "#d0312d"), -1: ("~", "#777777")}


def choose_scenes(scores: list[np.ndarray], how_many: int, seed: int = 0) -> np.ndarray:
    """Indices of scenes, drawn at random, first among those on whose three best classes the two students differ.

    Args:
        scores: of each student, (N, K).
    """
    first, second = (np.sort(np.argsort(-s, axis=1)[:, :3], axis=1) for s in scores)
    agree = (first == second).all(axis=1)
    shuffled = np.random.default_rng(seed).permutation(len(agree))
    return np.sort(shuffled[np.argsort(agree[shuffled], kind="stable")][:how_many])


def draw_scenes(path: str | os.PathLike, scenes: list[dict], students: list[str], class_names: list[str]) -> None:
    """Write a PNG with a scene in each cell.

    Args:
        scenes: dicts with ``image`` (H, W, 3) uint8 RGB, ``boxes`` (R, 4) XYXY in its pixels with the most confident
            first, ``labels`` (K,), 1, 0 or -1, and ``scores``, one (K,) for each student.
        students: names of the students, in the order of ``scores``.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    columns = min(3, len(scenes))
    rows = -(-len(scenes) // columns)
    grid = {"width_ratios": [1, 1.2] * columns}
    size = (4.8 * columns, 2.2 * rows + 0.4)
    figure, axes = plt.subplots(rows, columns * 2, figsize=size, squeeze=False, gridspec_kw=grid)
    for axis in axes.flat:
        axis.axis("off")
    for i, scene in enumerate(scenes):
        picture, text = axes[i // columns, 2 * (i % columns) : 2 * (i % columns) + 2]
        _draw_boxes(picture, scene)
        _write_labels(text, scene, students, class_names)
    figure.suptitle(
        "T-WDet's most confident boxes; top-3 labels of each student: ✓ blue right, ✗ red wrong", fontsize=10
    )
    figure.subplots_adjust(left=0.01, right=0.99, bottom=0.02, top=1 - 0.4 / size[1], wspace=0.06, hspace=0.06)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _draw_boxes(axis, scene: dict) -> None:
    from matplotlib.patches import Rectangle

    axis.imshow(scene["image"], interpolation="nearest")
    for rank, (x0, y0, x1, y1) in enumerate(scene["boxes"]):
        axis.add_patch(
            Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor="#35e02f", linewidth=2.2 - 0.3 * rank)
        )


def _write_labels(axis, scene: dict, students: list[str], class_names: list[str]) -> None:
    truth = ", ".join(class_names[k] for k in np.flatnonzero(scene["labels"] == 1))
    axis.text(0, 1, f"truth: {truth}", fontsize=8, va="top", wrap=True, transform=axis.transAxes)
    for column, (name, scores) in enumerate(zip(students, scene["scores"])):
        x = 0.52 * column
        axis.text(x, 0.74, name, fontsize=9, weight="bold", va="top", transform=axis.transAxes)
        for rank, k in enumerate(np.argsort(-scores)[:3]):
            sign, colour = MARKS[int(scene["labels"][k])]
            label = f"{sign} {class_names[k]} {scores[k]:.2f}"
            axis.text(x, 0.58 - 0.17 * rank, label, fontsize=9, color=colour, va="top", transform=axis.transAxes)
