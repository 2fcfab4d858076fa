"""T-WDet and S-Cls with and without distillation: results, speed and a figure."""

from __future__ import annotations

from pathlib import Path

import torch
from detectron2.config import instantiate
from detectron2.data.detection_utils import convert_image_to_rgb
from torchvision.ops import nms

from wsd_distill.engine import load_config, to_device
from wsd_distill.modeling.checkpoints.load import load_weights
from wsd_distill.report.figures import choose_scenes, draw_scenes
from wsd_distill.report.run_results import RunResults
from wsd_distill.report.tables import Table, describe_gains, markdown_table
from wsd_distill.report.throughput import describe_conditions, images_per_second

from .experiments import COMPARISON
from .paper_tables import read_row
from .published import DISTILLED, PLAIN, PLAIN_LONG, TEACHER

METRICS = ["mAP", "CF1", "OF1", "CF1-top3", "OF1-top3", "CorLoc", "images/s"]


def build_comparison(output: Path, seeds: int, name: str) -> Table:
    """Build a table of the finished runs of ``COMPARISON`` below ``output``."""
    rows = [read_row(method, training, output, seeds) for method, training in COMPARISON.items()]
    return Table(f"{name}, test split", f"In percent, {seeds} seed{'s' if seeds > 1 else ''}.", METRICS, rows)


def write_comparison(path: Path, table: Table) -> str:
    """Write and return the table as Markdown, with sentences about the gains."""
    gains = describe_gains(table, "mAP", [(TEACHER, PLAIN), (DISTILLED, PLAIN), (DISTILLED, PLAIN_LONG)])
    lines = [f"{table.title}. {table.caption}", "", markdown_table(table), "", *(f"- {gain}" for gain in gains), ""]
    path.write_text("\n".join(lines))
    return "\n".join(lines)


def load_model(run: Path) -> tuple[torch.nn.Module, list[dict]]:
    """Load the trained model of a run, on the CPU if there is no GPU.

    Returns:
        The model in evaluation mode, and the config of its test loader.

    Raises:
        FileNotFoundError: the run has no final checkpoint.
    """
    weights = run / "model_final.pth"
    if not weights.exists():
        raise FileNotFoundError(f"{weights} does not exist: finish the run first")
    cfg = load_config(str(run / "config.yaml"))
    device = cfg.train.device if torch.cuda.is_available() else "cpu"
    model = to_device(instantiate(cfg.model), device, cfg.train.channels_last)
    load_weights(model, str(weights))
    return model.eval(), cfg.dataloader.test.test.loader


def add_speed(table: Table, folder: Path) -> None:
    """Measure images per second of all methods on the runs in ``folder``, and add them to the table."""
    models = {}
    for method, training in COMPARISON.items():
        model, loader = load_model(folder / training)
        models[method] = (model, next(iter(instantiate(loader))))
    speeds = images_per_second(models)
    for row in table.rows:
        row.ours[0]["images/s"] = speeds[row.method]
    table.caption += f" Images/s (not in percent) of the first seed: {describe_conditions()}."


@torch.no_grad()
def draw_comparison(path: Path, folder: Path, count: int = 6, max_boxes: int = 5) -> bool:
    """Draw test images with T-WDet's boxes of highest s' after NMS, and the labels of both students.

    Args:
        folder: runs of one seed.

    Returns:
        Whether the runs are finished; otherwise nothing is drawn.
    """
    teacher_run, *student_runs = (RunResults(m, folder / COMPARISON[m]) for m in (TEACHER, PLAIN, DISTILLED))
    if not all(run.done for run in (teacher_run, *student_runs)):
        return False
    outputs = [run.scores for run in student_runs]
    teacher, loader = load_model(teacher_run.folder)
    dataset, scenes = instantiate(loader).dataset, []
    for i in choose_scenes([output.scores for output in outputs], count):
        view = dataset[i]
        detections = teacher.compute_outputs([view])
        boxes = detections.boxes[0].tensor
        best = nms(boxes, detections.objectness[0], 0.4)[:max_boxes]
        image = convert_image_to_rgb(view["image"].permute(1, 2, 0), teacher.image_format)
        scenes.append({"image": image, "boxes": boxes[best].cpu().numpy(), "labels": outputs[0].labels[i]})
        scenes[-1]["scores"] = [output.scores[i] for output in outputs]
    draw_scenes(path, scenes, [PLAIN, DISTILLED], outputs[0].class_names)
    return True
