#!/usr/bin/env python
"""Measure training steps, inference and distillation losses at full size on a GPU, and train on photos.

    python benchmarks/gpu.py --minutes 6 --output gpu.md
    python benchmarks/gpu.py --minutes 9 --part-minutes 5 --parts photos steps --output gpu.md

VGG16 (configs/vgg16) and ResNet-50 C4 (configs/common/resnet50.py) have random weights and run on noise images with
random proposals. Wall times include copying the batch to the GPU, not reading images. A step is forward, backward and
optimizer. ``photos`` trains the dataset's recipe with tools/train_net.py on photos and proposal stores in
$DETECTRON2_DATASETS. The report is Markdown, written row by row. Without a GPU, AMP and memory are left out.
"""

import wsd_distill  # noqa: F401  (first: it patches Detectron2 0.6 for a current PyTorch)

# isort: split
import argparse
import gc
import math
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median

import numpy as np
import torch
from detectron2.config import LazyConfig, instantiate
from detectron2.data import DatasetCatalog
from omegaconf import DictConfig
from PIL import Image
from true_size import HEIGHT, WIDTH, build, load_case, make_trainer, random_proposals

from wsd_distill.data.build import build_test_loader
from wsd_distill.data.proposal_store import ProposalStoreWriter, StoreMetadata
from wsd_distill.pipeline.plan import RunPlan
from wsd_distill.report.run_results import RunResults

ROOT = Path(__file__).resolve().parents[1]
AMP, DEVICE = (True, "cuda") if torch.cuda.is_available() else (False, "cpu")
NETWORKS = ["vgg16", "resnet50"]
CASES = {"teacher": "T-WDet", "student": "S-Cls", "stage1": "stage 1", "stage2": "stage 2"}
SIZES = "side student_side proposals classes width batch_sizes warm_up repeats".split()
FULL = dict(zip(SIZES, (672, 224, 500, 80, 4096, (4, 16), 10, 10)))  # gradient scaling skips the first optimizer steps
REDUCED = dict(zip(SIZES, (64, 32, 20, 5, 16, (2,), 1, 1)))


def make_noise_dataset(options: argparse.Namespace) -> None:
    """Register the dataset "noise"; write its images and its proposal store."""
    rng, records = np.random.default_rng(0), []
    with ProposalStoreWriter(options.folder / "noise.arrow", StoreMetadata("noise", "random boxes")) as writer:
        for image_id in (f"{i:03d}" for i in range(max(options.batch_sizes))):
            record = {"file_name": str(options.folder / f"{image_id}.jpg"), "image_id": image_id, "labels": [0]}
            records.append({**record, "height": HEIGHT, "width": WIDTH})
            Image.fromarray(rng.integers(256, size=(HEIGHT, WIDTH, 3), dtype=np.uint8)).save(record["file_name"])
            writer.write(image_id, *random_proposals(options.proposals))
    DatasetCatalog.register("noise", lambda: records)


def load(network: str, case: str, options: argparse.Namespace) -> DictConfig:
    """Load a case of true_size.py with the models of ``network`` and, for a Distiller, a teacher cache of "noise"."""
    cfg = load_case(case, options.side, options)
    cfg.train.device, cfg.proposals.num_proposals = DEVICE, options.proposals
    cfg.optimizer.lr = 1e-6  # keeps the random weights from diverging
    if "distiller" in cfg:
        files = {"folder": str(options.folder / network / case), "proposals": str(options.folder / "noise.arrow")}
        cfg.distiller.cache.update(dataset="noise", num_workers=0, **files)
    if network == "resnet50":
        models = LazyConfig.load(str(ROOT / "configs" / "common" / "resnet50.py"))
        cfg.model = models.c4_teacher if case.startswith("teacher") else models.c4_student
        if "distiller" in cfg:
            cfg.distiller.teacher = models.c4_teacher
        if case == "stage1":
            cfg.distiller.objectives.loss_roi.layers[0].update(teacher="res4", student="res4")
    return cfg


def read_batch(cfg: DictConfig, images: int, options: argparse.Namespace) -> list[dict]:
    mapper, proposals = instantiate(cfg.dataloader.train.mapper), str(options.folder / "noise.arrow")
    return next(iter(build_test_loader("noise", mapper=mapper, batch_size=images, proposals=proposals)))


def time_calls(cfg: DictConfig, model: torch.nn.Module, batch: list[dict], options: argparse.Namespace) -> list[str]:
    """Return median ms, images/s and peak GB of training steps, or of predictions if the mapper is for testing."""
    if cfg.dataloader.train.mapper.is_train:
        call = make_trainer(cfg, model.train(), batch).run_step
    else:
        call = torch.no_grad()(torch.autocast(DEVICE, enabled=cfg.trainer.amp)(partial(model.eval(), batch)))
    clock = []
    for i in range(options.warm_up + options.repeats + 1):
        if AMP:
            torch.cuda.synchronize()
        if AMP and i == options.warm_up:
            torch.cuda.reset_peak_memory_stats()
        clock.append(time.perf_counter())
        call()
    seconds = median(np.diff(clock)[options.warm_up :])
    memory = f"{torch.cuda.max_memory_allocated() / 1e9:.2f}" if AMP else ""
    return [f"{1000 * seconds:.1f}", f"{len(batch) / seconds:.1f}", memory]


def measure_speed(cases: list[str], options: argparse.Namespace, _: float) -> Iterator[list]:
    """Yield a row for each network, case, precision and batch size; an error becomes a cell."""
    for network, case in product(options.networks, cases):
        cfg = load(network, case, options)
        model = build(cfg, options.folder)
        for amp, images in product([True, False] if AMP else [False], options.batch_sizes):
            cfg.trainer.amp = amp
            gc.collect()  # earlier models
            torch.cuda.empty_cache()
            try:
                cells = time_calls(cfg, model, read_batch(cfg, images, options), options)
            except (RuntimeError, FloatingPointError) as error:  # out of memory, or a loss that is not finite
                cells = [f"{type(error).__name__}: {str(error).splitlines()[0]}"]
            yield [f"{network} {CASES[case.partition('-')[0]]}", "AMP" if amp else "float32", images, *cells]


def compare_losses(options: argparse.Namespace, _: float) -> Iterator[list]:
    """Yield the losses of a batch, with a teacher that runs on it and with cached teacher outputs."""
    for network, case in product(options.networks, ("stage1", "stage2")):
        cfg = load(network, case, options)
        cfg.distiller.use_cache, cfg.dataloader.train.mapper.teacher_cached = True, False  # the batch serves both
        distiller, batch = build(cfg, options.folder).train(), read_batch(cfg, min(options.batch_sizes), options)
        distiller.fill_cache()
        found = []
        for cache, amp in ((None, False), (None, AMP), (distiller.cache, AMP)):
            distiller.cache = cache
            torch.manual_seed(0)  # the same dropout
            with torch.no_grad(), torch.autocast(DEVICE, enabled=amp):
                found.append({name: loss.item() for name, loss in distiller(batch).items()})
        for name, online in found[1].items():
            cells = [f"{losses[name]:.6g}" for losses in found]
            yield [f"{network} {CASES[case]}", name, *cells, f"{abs(found[2][name] / online - 1):.1e}"]


def train_on_photos(options: argparse.Namespace, deadline: float) -> Iterator[list]:
    """Train T-WDet, S-Cls and both stages; yield their results on the test split."""
    mapper = "dataloader.train.mapper"
    for run in RunPlan(ROOT, options.photos, output=options.runs, opts=options.opts).targets(CASES, seeds=1):
        case, started = run.folder.name, time.monotonic()
        command = [*run.command, f"{mapper}.sizes=[{options.side if case == 'teacher' else options.student_side}]"]
        if case.startswith("stage"):
            command.append(f"{mapper}.teacher_sizes=[{options.side}]")
        subprocess.run(command, stdout=sys.stderr, check=True, timeout=deadline - started)
        results = RunResults(case, run.folder)
        metrics = [f"{results.metrics[name]:.1f}" if name in results.metrics else "" for name in METRICS]
        seconds = time.monotonic() - started
        yield [CASES[case], *metrics, f"{1000 * median(results.curve('time')[1] or [math.nan]):.1f}", f"{seconds:.0f}"]


SPEED = ["model", "precision", "batch", "ms", "images/s", "peak memory, GB"]
METRICS = ["mAP", "CorLoc", "AP50"]
PARTS = {  # name -> column names, function of the options and the deadline that yields rows
    "steps": (SPEED, partial(measure_speed, list(CASES))),
    "inference": (SPEED, partial(measure_speed, ["student-inference", "teacher-inference"])),
    "losses": (["model", "loss", "float32", "AMP", "AMP, cached", "difference of the last two"], compare_losses),
    "photos": (["training", *METRICS, "ms per step", "time, s"], train_on_photos),
}


def write(text: str, options: argparse.Namespace) -> None:
    for stream in (None, options.report):
        print(text, file=stream, flush=True)


def run_part(part: str, deadline: float, options: argparse.Namespace) -> None:
    """Write the table of a part; an error is written below it and does not end the program."""
    columns, measure = PARTS[part]
    write(f"\n## {part}\n\n| {' | '.join(columns)} |\n|{' --- |' * len(columns)}", options)
    rows = measure(options, deadline)
    try:
        while time.monotonic() < deadline:
            if (row := next(rows, None)) is None:
                return
            write(f"| {' | '.join(map(str, row))} |", options)
        write("\nStopped: time limit.", options)
    except subprocess.TimeoutExpired:  # the deadline ended a training
        write("\nStopped: time limit.", options)
    except Exception as error:
        traceback.print_exc()
        write(f"\n{type(error).__name__}: {error}", options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add, names = parser.add_argument, list(PARTS)
    add("--minutes", type=float, default=10, help="time limit of all parts (default: %(default)s)")
    add("--part-minutes", type=float, default=10, help="time limit of each part (default: %(default)s)")
    add("--parts", nargs="+", choices=names, default=names[:3], help="in this order (default: all but photos)")
    add("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    add("--reduced", action="store_true", help=f"use reduced sizes, to test this program: {REDUCED}")
    add("--photos", default="coco3k", metavar="DATASET", help="dataset.name of the photos (default: %(default)s)")
    add("--runs", type=Path, default=Path("output/gpu"), help="folder of trainings on photos (default: %(default)s)")
    add("--opts", nargs="+", default=[], metavar="key=value", help="overrides, each for their configs with its key")
    add("--output", type=Path, default="gpu.md", metavar="FILE", help="report (default: %(default)s)")
    options = parser.parse_args()
    vars(options).update(sizes := REDUCED if options.reduced else FULL)
    end = time.monotonic() + 60 * options.minutes
    torch.backends.cudnn.benchmark = True
    with tempfile.TemporaryDirectory() as folder, open(options.output, "w") as options.report:
        options.folder = Path(folder)
        make_noise_dataset(options)
        write(f"{torch.cuda.get_device_name() if AMP else 'CPU'}, PyTorch {torch.__version__}, {sizes}", options)
        for part in options.parts:
            run_part(part, min(end, time.monotonic() + 60 * options.part_minutes), options)


if __name__ == "__main__":
    main()
