#!/usr/bin/env python
"""Compare the cost of distillation, all included, with that of plain training at the same epochs.

    python benchmarks/pipeline.py --dataset voc5 --threads 1
    python benchmarks/pipeline.py --dataset voc5 --full output/voc5/seed0

Every stage runs on --photos training photos, with random weights, by the code that a training uses: proposals, steps of
T-WDet, the teacher's pass that fills the cache, and steps of both students; reading the photos is included. The steps
of all trainings take turns, two at a time, of which the second counts. Seconds per photo are multiplied by the photos
and epochs of the recipe: the minutes are a calculation. Evaluations are left out; all students have the same.

--full adds up the steps that the trainings in a folder of tools/reproduce.py have logged: their log/metrics.json.
"""

import wsd_distill  # noqa: F401  (first: it patches Detectron2 0.6 for a current PyTorch)

# isort: split
import argparse
import json
import tempfile
import time
from operator import itemgetter
from pathlib import Path

import cv2
import numpy as np
import torch
from detectron2.config import instantiate
from detectron2.data import DatasetCatalog
from tabulate import tabulate
from true_size import build, make_trainer
from turns import measure_in_turns

from wsd_distill.data.build import get_dataset_dicts
from wsd_distill.data.image import read_rgb
from wsd_distill.data.proposal_store import ProposalStoreWriter, StoreMetadata
from wsd_distill.engine import load_config

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
SUBSET = "photos of benchmarks/pipeline.py"
TEACHER, PLAIN, REGIONS, TRUNK = "teacher", "student", "region_consistent", "region_consistent_trunk"
STAGES = {  # stage -> title
    "proposals": "proposals",
    TEACHER: "T-WDet, training",
    f"{REGIONS}, cache": "teacher's pass",
    f"{TRUNK}, cache": "untrained trunk's pass",
    PLAIN: "plain student",
    REGIONS: "student, T-WDet's map",
    TRUNK: "student, untrained trunk's map",
}
WAYS = {  # what is compared -> its stages
    "plain": [PLAIN],
    "T-WDet": ["proposals", TEACHER, f"{REGIONS}, cache", REGIONS],
    "untrained trunk": [f"{TRUNK}, cache", TRUNK],
}


def load(name: str, options: argparse.Namespace, folder: Path):
    """Load a config of the recipe for the subset of the photos, without workers and the teacher check."""
    cfg = load_config(str(CONFIGS / options.recipe / f"{name}.py"), [f"dataset.name={options.dataset}", *options.opts])
    cfg.train.device, cfg.trainer.amp, cfg.dataloader.train.num_workers = "cpu", False, 0
    cfg.dataset.train = SUBSET
    if cfg.dataloader.train.proposals is not None:
        cfg.dataloader.train.proposals = str(folder / "proposals.arrow")
    if "distiller" in cfg:
        cfg.distiller.cache.folder = str(folder / f"{name}_cache")
        cfg.distiller.objectives.loss_regions.fit_images = 1  # once in a training, so that it is not counted
    return cfg


def make_proposals(cfg, records: list[dict], folder: Path) -> np.ndarray:
    """Write the proposal store of the subset; return seconds per photo, CPU and clock."""
    generator = instantiate(cfg.image_proposals).proposer
    generator.prepare()
    images = [read_rgb(record["file_name"]) for record in records]
    cpu, wall = time.process_time(), time.perf_counter()
    found = [generator(image) for image in images]
    seconds = np.array([time.process_time() - cpu, time.perf_counter() - wall]) / len(records)
    ids = [str(record["image_id"]) for record in records]
    with ProposalStoreWriter(folder / "proposals.arrow", StoreMetadata(SUBSET, "edge_boxes")) as writer:
        for image_id, proposals in sorted(zip(ids, found), key=itemgetter(0)):
            writer.write(image_id, *proposals)
    return seconds


def prepare_training(name: str, options: argparse.Namespace, folder: Path):
    """Return a function that trains one step, the number of its photos, and seconds per photo of the teacher's pass."""
    cfg = load(name, options, folder)
    model, passed = build(cfg, folder).train(), np.zeros(2)
    trainer = make_trainer(cfg, model, [])
    trainer.data_loader = instantiate(cfg.dataloader.train)
    if "distiller" in cfg:
        cpu, wall = time.process_time(), time.perf_counter()
        model.fill_cache()
        passed = np.array([time.process_time() - cpu, time.perf_counter() - wall]) / options.photos
        model.fit_objectives(instantiate(cfg.dataloader.train))
    return trainer.run_step, cfg.train.batch_size, passed


def measure(options: argparse.Namespace) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """Return stage -> seconds per photo (CPU, clock), and stage -> number of photos of a whole run."""
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(options.threads)
    whole = load_config(
        str(CONFIGS / options.recipe / f"{TEACHER}.py"), [f"dataset.name={options.dataset}", *options.opts]
    )
    records, chosen = (get_dataset_dicts(whole.dataset.train, count) for count in (None, options.photos))
    splits = {whole.dataset[split] for split in ("train", "val", "test")}
    counts = dict.fromkeys(STAGES, len(records))
    counts["proposals"] = sum(len(DatasetCatalog.get(split)) for split in splits)
    DatasetCatalog.register(SUBSET, lambda: chosen)
    seconds, steps = {}, {}
    try:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            seconds["proposals"] = make_proposals(load(TEACHER, options, folder), chosen, folder)
            batches = {}
            for run in (TEACHER, PLAIN, REGIONS, TRUNK):
                counts[run] *= load(run, options, folder).train.epochs
                steps[run], batches[run], seconds[f"{run}, cache"] = prepare_training(run, options, folder)
            for run, found in measure_in_turns(steps, options.rounds, twice=True).items():
                seconds[run] = np.median(found, axis=0) / batches[run]
    finally:
        DatasetCatalog.remove(SUBSET)
    return {stage: seconds[stage] for stage in STAGES}, counts


def stage_table(seconds: dict[str, np.ndarray], counts: dict[str, int]) -> str:
    rows = []
    for stage, title in STAGES.items():
        cpu, wall = seconds[stage]
        rows.append([title, counts[stage], 1000 * cpu, 1000 * wall, cpu * counts[stage] / 60])
    headers = ["stage", "photos x epochs", "CPU, ms a photo", "clock, ms a photo", "CPU, minutes (calculated)"]
    return tabulate(rows, headers, tablefmt="pipe", floatfmt=("", "", ".1f", ".1f", ".1f"))


def ratio_table(seconds: dict[str, np.ndarray], counts: dict[str, int]) -> str:
    totals = {way: sum(seconds[stage] * counts[stage] for stage in stages) for way, stages in WAYS.items()}
    rows = []
    for way, stages in WAYS.items():
        cpu, wall = totals[way] / totals["plain"]
        share = {STAGES[stage]: seconds[stage][0] * counts[stage] / totals[way][0] for stage in stages}
        where = ", ".join(f"{title} {100 * x:.0f} %" for title, x in sorted(share.items(), key=lambda x: -x[1]))
        rows.append([way, cpu, wall, where])
    headers = ["teacher", "ratio of CPU times", "of clock times", "where the CPU time goes"]
    return tabulate(rows, headers, tablefmt="pipe", floatfmt=".2f")


def read_seconds(folder: Path) -> float:
    """Add up the steps that a training has logged: the median of each interval, as Detectron2 logs it."""
    path = next((p for p in (folder / "log" / "metrics.json", folder / "metrics.json") if p.exists()), None)
    if path is None:
        raise FileNotFoundError(f"{folder} has no metrics.json: give a folder of finished trainings to --full")
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    total, last = 0.0, -1
    for entry in (entry for entry in entries if "time" in entry):
        total += entry["time"] * (entry["iteration"] - last)
        last = entry["iteration"]
    return total


def full_table(folder: Path) -> str:
    rows = []
    names = (TEACHER, PLAIN, REGIONS, TRUNK)
    for name in names:
        if (folder / name).exists():
            rows.append([STAGES[name], read_seconds(folder / name) / 60])
    if not rows:
        raise FileNotFoundError(f"{folder} has none of {', '.join(names)}: give a folder of finished trainings")
    return tabulate(rows, ["training", "steps, minutes on the clock"], tablefmt="pipe", floatfmt=".1f")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="voc5")
    parser.add_argument("--recipe", default="efficientnet_lite0")
    parser.add_argument("--photos", type=int, default=32, help="training photos, evenly spaced (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--full", type=Path, metavar="FOLDER", help="add up the logs of finished trainings instead")
    parser.add_argument("--opts", nargs="*", default=[], help="overrides of the configs")
    options = parser.parse_args()
    if options.full:
        print(full_table(options.full))
        return
    seconds, counts = measure(options)
    print(f"{options.dataset}, {options.recipe}, {options.threads} thread(s)\n")
    print(stage_table(seconds, counts), ratio_table(seconds, counts), sep="\n\n")


if __name__ == "__main__":
    main()
