#!/usr/bin/env python
"""Run the paper's comparison on a data set: proposals, T-WDet, S-Cls without and with distillation, one table.

    python tools/reproduce.py --dataset digit_scenes --seeds 3

Finished runs are kept, an interrupted one goes on from its last checkpoint. Everything lands in --output: a folder for
each run with its log, configuration, checkpoint and scores; table.md; scenes.png.
"""

from __future__ import annotations

import wsd_distill  # noqa: F401  (first: it mends Detectron2 0.6 on a current PyTorch)

# isort: split
import argparse
import json
import os
import re
import subprocess
import sys
import time
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from detectron2.config import LazyConfig, instantiate
from torchvision.ops import nms
from tqdm import tqdm

from wsd_distill.data.datasets import register_from
from wsd_distill.engine import place
from wsd_distill.modeling.weights import load_weights
from wsd_distill.report.pictures import choose_scenes, draw_scenes
from wsd_distill.report.table import gains, markdown_table
from wsd_distill.report.throughput import images_per_second

ROOT = Path(__file__).resolve().parent.parent
METRICS = ["mAP", "CF1", "OF1", "CF1-top3", "OF1-top3", "CorLoc", "images/s"]
TEACHER, PLAIN, LONG, DISTILLED = "T-WDet", "S-Cls (w/o)", "S-Cls (w/o), epochs of both stages", "S-Cls (w/)"
METHODS = {TEACHER: "teacher", PLAIN: "student", LONG: "student_long", DISTILLED: "stage2"}


@dataclass
class Run:
    """One training: a config, what it overrides, and where it writes."""

    name: str
    config: Path
    output: Path
    overrides: list[str] = field(default_factory=list)
    needs: list[Run] = field(default_factory=list)

    @property
    def weights(self) -> Path:
        return self.output / "model_final.pth"

    @property
    def done(self) -> bool:
        return (self.output / "results.json").exists()


def plan(dataset: str, seed: int, output: Path) -> list[Run]:
    """The runs of one seed, in an order in which each finds what it needs."""
    configs, folder = ROOT / "configs" / dataset, output / f"seed{seed}"
    iterations = {stage: LazyConfig.load(str(configs / f"{stage}.py")).train.max_iter for stage in ("stage1", "stage2")}
    teacher = Run("teacher", configs / "teacher.py", folder / "teacher")
    stage1 = Run(
        "stage1",
        configs / "stage1.py",
        folder / "stage1",
        [f"distiller.teacher_checkpoint={teacher.weights}"],
        [teacher],
    )
    runs = [
        teacher,
        # As many epochs as stage 2 has, and as many as both stages have together.
        Run("student", configs / "student.py", folder / "student", [f"train.max_iter={iterations['stage2']}"]),
        Run(
            "student_long",
            configs / "student.py",
            folder / "student_long",
            [f"train.max_iter={sum(iterations.values())}"],
        ),
        stage1,
        Run(
            "stage2",
            configs / "stage2.py",
            folder / "stage2",
            [*stage1.overrides, f"train.init_checkpoint={stage1.weights}"],
            [stage1],
        ),
    ]
    for run in runs:
        run.overrides += [f"train.seed={seed}", f"train.output_dir={run.output}"]
    return runs


def train_all(runs: list[Run], jobs: int) -> None:
    """Train what is not done, each run as soon as what it needs is there, ``jobs`` at once."""
    waiting, running = [run for run in runs if not run.done], set()
    with ThreadPoolExecutor(jobs) as pool:
        while waiting or running:
            ready = [run for run in waiting if all(needed.done for needed in run.needs)]
            threads = max(1, os.cpu_count() // min(jobs, len(running) + len(ready)))
            for run in ready[: jobs - len(running)]:
                waiting.remove(run)
                running.add(pool.submit(train, run, threads))
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                future.result()  # raises what stopped it; the others come to their end


def train(run: Run, threads: int) -> None:
    """Train in a process of its own, with a bar for its iterations; all it says goes to stdout.txt."""
    run.output.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable,
        "-W",
        "ignore",
        str(ROOT / "tools" / "train_net.py"),
        "--config-file",
        str(run.config),
    ]
    command += ["--resume", *run.overrides]
    log = run.output / "stdout.txt"
    started = time.time()
    environment = {"OMP_NUM_THREADS": str(threads), **os.environ}
    with (
        open(log, "a") as file,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        ) as process,
        tqdm(desc=f"{run.output.parent.name} {run.name}", unit="it") as bar,
    ):
        for line in process.stdout:
            file.write(line)
            file.flush()
            follow(line, bar)
    if process.returncode != 0 or not run.done:
        tail = "".join(log.read_text().splitlines(keepends=True)[-15:])
        raise SystemExit(f"{run.name} failed (all of it is in {log}); the command was\n{' '.join(command)}\n\n{tail}")
    (run.output / "seconds.txt").write_text(f"{time.time() - started:.0f}\n")


def follow(line: str, bar: tqdm) -> None:
    """Move the bar to what a line of Detectron2's log tells."""
    found = re.search(r"eta: (\S+)\s+iter: (\d+).*?total_loss: (\S+)", line)
    if found:
        bar.update(int(found[2]) + 1 - bar.n)
        bar.set_postfix_str(f"{found[1]} left, loss {found[3]}")


def read_results(run: Run) -> dict[str, float]:
    results = json.loads((run.output / "results.json").read_text())["test"]
    return {metric: value for task in results.values() for metric, value in task.items()}


def load(run: Run) -> tuple[torch.nn.Module, list[dict]]:
    """The trained model of a run, and the first batch of its test set."""
    cfg = LazyConfig.load(str(run.output / "config.yaml"))
    register_from(cfg)
    model = place(instantiate(cfg.model), cfg.train.device, cfg.train.channels_last)
    load_weights(model, str(run.weights))
    return model.eval(), cfg.dataloader.test.test.loader


def measure_speed(runs: dict[str, Run]) -> dict[str, float]:
    models = {}
    for method, name in METHODS.items():
        model, loader = load(runs[name])
        models[method] = (model, next(iter(instantiate(loader))))
    return images_per_second(models)


@torch.no_grad()
def draw(runs: dict[str, Run], path: Path, how_many: int = 6, boxes: int = 5) -> None:
    """Test scenes with T-WDet's boxes of highest s' after non-maximum suppression, and both students' labels."""
    students = [PLAIN, DISTILLED]
    files = [np.load(runs[METHODS[s]].output / "inference" / "test" / "scores.npz") for s in students]
    chosen = choose_scenes([f["scores"] for f in files], how_many)
    teacher, loader = load(runs["teacher"])
    dataset = instantiate(loader).dataset
    scenes = []
    for i in chosen:
        view = dataset[i]
        output = teacher.extract([view])
        found, objectness = output.boxes[0].tensor, output.objectness[0]
        best = nms(found, objectness, 0.4)[:boxes]
        scenes.append(
            {
                "image": view["image"].permute(1, 2, 0).numpy(),
                "boxes": found[best].cpu().numpy(),
                "labels": files[0]["labels"][i],
                "scores": [f["scores"][i] for f in files],
            }
        )
    draw_scenes(path, scenes, students, [str(name) for name in files[0]["class_names"]])


def default_jobs() -> int:
    """One on a GPU; otherwise one for each core, four at the most, for small models gain little from more threads."""
    return 1 if torch.cuda.is_available() else min(4, os.cpu_count())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    datasets = sorted(path.parent.name for path in ROOT.glob("configs/*/stage2.py"))
    datasets.remove("image_list")  # its files are named on the command line of each run
    parser.add_argument("--dataset", default="digit_scenes", choices=datasets)
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0 to N - 1 (default 3)")
    parser.add_argument("--output", type=Path, help="default: output/<dataset>")
    parser.add_argument("--jobs", type=int, default=default_jobs(), help="runs at once (default %(default)s here)")
    arguments = parser.parse_args()
    output = (arguments.output or Path("output") / arguments.dataset).resolve()
    os.chdir(ROOT)  # as the runs do, whose configs name data sets from there

    command = [sys.executable, "-W", "ignore", str(ROOT / "tools" / "generate_proposals.py"), "--config-file"]
    subprocess.run([*command, str(ROOT / "configs" / arguments.dataset / "data.py")], check=True)

    seeds = [{run.name: run for run in plan(arguments.dataset, s, output)} for s in range(arguments.seeds)]
    train_all([run for runs in seeds for run in runs.values()], arguments.jobs)
    rows = {method: [read_results(runs[name]) for runs in seeds] for method, name in METHODS.items()}
    runs = seeds[0]
    for method, speed in measure_speed(runs).items():
        rows[method][0]["images/s"] = speed
    table = markdown_table(rows, METRICS)
    sentences = gains(rows, "mAP", [(TEACHER, PLAIN), (DISTILLED, PLAIN), (DISTILLED, LONG)])
    text = "\n".join([table, "", *(f"- {sentence}" for sentence in sentences), ""])
    (output / "table.md").write_text(text)
    draw(runs, output / "scenes.png")
    print(f"\n{arguments.dataset}, test split, {arguments.seeds} seed(s), in percent:\n\n{text}")
    print(f"Table: {output / 'table.md'}\nPicture: {output / 'scenes.png'}")


if __name__ == "__main__":
    main()
