"""T-WDet and S-Cls without and with distillation: what they are worth, how fast they are, and what they see."""

from __future__ import annotations

from pathlib import Path

import torch
from detectron2.config import LazyConfig, instantiate
from detectron2.data.detection_utils import convert_image_to_rgb
from torchvision.ops import nms

from wsd_distill.data.datasets import register_from_config
from wsd_distill.engine import place
from wsd_distill.evaluation.scores import SCORES_FILE, read_scores
from wsd_distill.modeling.checkpoints import load_weights
from wsd_distill.report.figures import choose_scenes, draw_scenes
from wsd_distill.report.runs import Run
from wsd_distill.report.table import Table, gains, markdown_table
from wsd_distill.report.throughput import conditions, images_per_second

from .published import DISTILLED, PLAIN, TEACHER
from .recipes import COMPARISON, LONG
from .tables import read_row

METRICS = ["mAP", "CF1", "OF1", "CF1-top3", "OF1-top3", "CorLoc", "images/s"]


def build_comparison(output: Path, seeds: int, name: str) -> Table:
    """Of the runs of ``COMPARISON`` below ``output``, as far as they are finished."""
    rows = [read_row(method, run, output, seeds) for method, run in COMPARISON.items()]
    caption = f"In percent, {seeds} seed{'s' if seeds > 1 else ''}."
    return Table(f"{name}, test split", caption, METRICS, rows)


def write_comparison(path: Path, table: Table) -> str:
    """Its title, Markdown and sentences on what distillation gains, to a file; also returned."""
    sentences = gains(table, "mAP", [(TEACHER, PLAIN), (DISTILLED, PLAIN), (DISTILLED, LONG)])
    head = f"{table.title}. {table.caption}"
    text = "\n".join([head, "", markdown_table(table), "", *(f"- {sentence}" for sentence in sentences), ""])
    path.write_text(text)
    return text


def load(run: Path) -> tuple[torch.nn.Module, list[dict]]:
    """The trained model of a run, on the CPU where there is no GPU; the loader of its test set as its config has it.

    Raises:
        FileNotFoundError: its checkpoint is not there.
    """
    weights = run / "model_final.pth"
    if not weights.exists():
        raise FileNotFoundError(f"{weights} is not there")
    cfg = LazyConfig.load(str(run / "config.yaml"))
    register_from_config(cfg)
    device = cfg.train.device if torch.cuda.is_available() else "cpu"
    model = place(instantiate(cfg.model), device, cfg.train.channels_last)
    load_weights(model, str(weights))
    return model.eval(), cfg.dataloader.test.test.loader


def add_speed(table: Table, folder: Path) -> None:
    """Images a second of all its methods, measured on the runs in the folder of the first seed; how, in the caption."""
    models = {}
    for method, run in COMPARISON.items():
        model, loader = load(folder / run)
        models[method] = (model, next(iter(instantiate(loader))))
    speeds = images_per_second(models)
    for row in table.rows:
        row.ours[0]["images/s"] = speeds[row.method]
    table.caption += f" Images/s, no percentage, of the first seed: {conditions()}."


@torch.no_grad()
def draw_comparison(path: Path, folder: Path, how_many: int = 6, boxes: int = 5) -> bool:
    """Test scenes with T-WDet's boxes of highest s' after non-maximum suppression, and both students' labels.

    Args:
        folder: of one seed.

    Returns:
        Whether the runs are there that it takes; without them nothing is drawn.
    """
    students = [PLAIN, DISTILLED]
    if not all(Run(method, folder / COMPARISON[method]).done for method in (TEACHER, *students)):
        return False
    files = [read_scores(folder / COMPARISON[student] / "inference" / "test" / SCORES_FILE) for student in students]
    chosen = choose_scenes([f.scores for f in files], how_many)
    teacher, loader = load(folder / COMPARISON[TEACHER])
    dataset = instantiate(loader).dataset
    scenes = []
    for i in chosen:
        view = dataset[i]
        output = teacher.compute_outputs([view])
        found, objectness = output.boxes[0].tensor, output.objectness[0]
        best = nms(found, objectness, 0.4)[:boxes]
        scenes.append(
            {
                "image": convert_image_to_rgb(view["image"].permute(1, 2, 0), teacher.image_format),
                "boxes": found[best].cpu().numpy(),
                "labels": files[0].labels[i],
                "scores": [f.scores[i] for f in files],
            }
        )
    draw_scenes(path, scenes, students, files[0].class_names)
    return True
