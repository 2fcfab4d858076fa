"""T-WDet and S-Cls with and without distillation: results, speed and a figure."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import torch
from detectron2.config import instantiate
from detectron2.data.detection_utils import convert_image_to_rgb
from torch import nn
from torchvision.ops import nms

from wsd_distill.engine.trained_run import load_trained_run
from wsd_distill.report.figures import choose_scenes, draw_scenes
from wsd_distill.report.run_results import RunResults
from wsd_distill.report.tables import Row, Table, describe_gains, markdown_table

from .experiments import COMPARISON, DISTILLED, PLAIN, PLAIN_LONG, TEACHER
from .paper_tables import read_results

METRICS = ["mAP", "CF1", "OF1", "CF1-top3", "OF1-top3", "CorLoc", "images/s"]


def build_comparison(output: Path, seeds: int, name: str) -> Table:
    """Build a table of the finished runs of ``COMPARISON`` below ``output``."""
    rows = [Row(method, ours=read_results(training, output, seeds)) for method, training in COMPARISON.items()]
    caption = f"In percent, {seeds} seed{'s' if seeds > 1 else ''}."
    chance = sorted({f"{seed['mAP-chance']:.1f}" for row in rows for seed in row.ours if "mAP-chance" in seed})
    caption += f" Random scores have an mAP of {' to '.join(chance)}." if chance else ""
    return Table(f"{name}, test split", caption, METRICS, rows)


def write_comparison(path: Path, table: Table) -> str:
    """Write and return the table as Markdown, with sentences about the gains."""
    gains = describe_gains(table, "mAP", [(TEACHER, PLAIN), (DISTILLED, PLAIN), (DISTILLED, PLAIN_LONG)])
    lines = [f"{table.title}. {table.caption}", "", markdown_table(table), "", *(f"- {gain}" for gain in gains), ""]
    path.write_text("\n".join(lines))
    return "\n".join(lines)


def add_speed(table: Table, folder: Path) -> None:
    """Measure images per second of all methods on the runs in ``folder``, and add them to the table."""
    models = {}
    for method, training in COMPARISON.items():
        cfg, model = load_trained_run(folder / training)
        models[method] = (model, next(iter(instantiate(cfg.dataloader.test.test.loader))))
    speeds = images_per_second(models)
    for row in table.rows:
        row.ours[0]["images/s"] = speeds[row.method]
    device = f"one {torch.cuda.get_device_name()}" if torch.cuda.is_available() else "one core"
    how = f"on {device}, models taking turns, without loading images"
    table.caption += f" Images/s (not in percent) of the first seed: {how}."


@torch.no_grad()
def images_per_second(models: dict[str, tuple[nn.Module, list[dict]]], rounds: int = 15) -> dict[str, float]:
    """Measure the median over ``rounds``, on a GPU or on one core. Models take turns, so that other load affects all.

    Args:
        models: name -> (model, one batch of inputs). Loading images is not measured.
        rounds: measurements per model, after two that warm up.
    """
    seconds: dict[str, list[float]] = {name: [] for name in models}
    threads, has_gpu = torch.get_num_threads(), torch.cuda.is_available()
    torch.set_num_threads(threads if has_gpu else 1)
    try:
        for turn in range(rounds + 2):
            for name, (model, batch) in models.items():
                model.eval()
                model(batch)  # not measured: fills the caches, which the other model has used
                start = time.perf_counter()
                model(batch)
                if has_gpu:
                    torch.cuda.synchronize()
                if turn >= 2:
                    seconds[name].append(time.perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
    return {name: len(models[name][1]) / statistics.median(times) for name, times in seconds.items()}


@torch.no_grad()
def draw_comparison(path: Path, folder: Path, count: int = 6, max_boxes: int = 5) -> None:
    """Draw test images with T-WDet's boxes of highest s' after NMS, and the labels of both students.

    Args:
        path: file to write, unless a run is unfinished.
        folder: runs of one seed.
    """
    runs = [RunResults(method, folder / COMPARISON[method]) for method in (TEACHER, PLAIN, DISTILLED)]
    if not all(run.done for run in runs):
        return
    outputs = [run.scores for run in runs[1:]]
    cfg, teacher = load_trained_run(runs[0].folder)
    dataset, scenes = instantiate(cfg.dataloader.test.test.loader).dataset, []
    for i in choose_scenes([output.scores for output in outputs], count):
        view = dataset[i]
        detections = teacher.compute_outputs([view])
        boxes = detections.boxes[0].tensor
        best = nms(boxes, detections.objectness[0], 0.4)[:max_boxes]
        image = convert_image_to_rgb(view["image"].permute(1, 2, 0), teacher.image_format)
        scenes.append({"image": image, "boxes": boxes[best].cpu().numpy(), "labels": outputs[0].labels[i]})
        scenes[-1]["scores"] = [output.scores[i] for output in outputs]
    draw_scenes(path, scenes, [PLAIN, DISTILLED], outputs[0].class_names)
