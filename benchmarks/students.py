#!/usr/bin/env python
"""Compare training steps of S-Cls with a bare PyTorch loop, and the loader's speed with the network's.

    python benchmarks/students.py --threads 1
    python benchmarks/students.py --dataset voc5

The bare loop has the same network, optimizer, images and mapper: torch's DataLoader, forward, binary cross-entropy,
backward, AdamW. Both read their photos in the same process, and their steps take turns. The memory is the peak of a
process of its own for each. The loader's rates have --workers worker processes; the network's rate is that of steps
without reading. Without --dataset, the photos are those shipped with scikit-image, as JPEGs of 640 x 480.
"""

import wsd_distill  # noqa: F401  (first: it patches Detectron2 0.6 for a current PyTorch)

# isort: split
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice, repeat
from pathlib import Path

import torch
from detectron2.config import instantiate
from detectron2.data import DatasetCatalog
from tabulate import tabulate
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import DataLoader
from true_size import build, make_trainer
from turns import measure_in_turns, median_ratio, peak_memory, write_photos

from wsd_distill.engine import load_config

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
PHOTOS = "photos of benchmarks/students.py"
OURS, BARE = "S-Cls", "bare loop"
AUGMENTATIONS = {  # title -> changes to dataloader.train, each added to those before
    "whole photos": {"mapper.crop_scale": None},
    "crops": {"mapper.crop_scale": [0.25, 1.0]},
    "crops, RandAugment": {"mapper.color_augment": "rand-m9-n2-mstd0.5"},
    "crops, RandAugment, mixup": {"mix.mixup": 0.5},
}


def load(options: argparse.Namespace, folder: Path):
    """Load the student of the recipe; without a dataset, for photos that are written to ``folder``."""
    cfg = load_config(str(CONFIGS / options.recipe / "student.py"), [f"dataset.name={options.dataset or 'coco_2014'}"])
    cfg.train.device, cfg.trainer.amp, cfg.dataloader.train.num_workers = "cpu", False, 0
    cfg.train.batch_size, cfg.trainer.accumulate = options.batch_size or cfg.train.batch_size, 1
    if options.dataset is None:
        cfg.dataset.update(num_classes=80, class_names=[f"class {k}" for k in range(80)], train=PHOTOS)
        paths = write_photos(folder, 4 * cfg.train.batch_size)
        records = [
            {"file_name": str(path), "image_id": i, "height": 480, "width": 640, "labels": [i % 80]}
            for i, path in enumerate(paths)
        ]
        if PHOTOS not in DatasetCatalog.list():
            DatasetCatalog.register(PHOTOS, lambda: records)
    return cfg


def make_our_step(cfg, folder: Path) -> Callable[[], None]:
    trainer = make_trainer(cfg, build(cfg, folder).train(), [])
    trainer.data_loader = instantiate(cfg.dataloader.train)
    return trainer.run_step


def make_bare_step(cfg, folder: Path) -> Callable[[], None]:
    """The loop that a user would write, with the same layers and the mapper as the dataset of torch's DataLoader."""
    model = build(cfg, folder).train()
    network = torch.nn.Sequential(_Select(model.backbone, model.in_feature), model.head, model.classifier)
    optimizer = torch.optim.AdamW(network.parameters(), lr=cfg.optimizer.lr, weight_decay=cfg.optimizer.weight_decay)
    mapper, records = instantiate(cfg.dataloader.train.mapper), DatasetCatalog.get(cfg.dataset.train)
    batches = _read_forever(_Mapped(mapper, records), cfg.train.batch_size)

    def step() -> None:
        images, labels = next(batches)
        x = (images.float() - model.pixel_mean) / model.pixel_std
        optimizer.zero_grad()
        binary_cross_entropy_with_logits(network(x), labels).backward()
        optimizer.step()

    return step


class _Select(torch.nn.Module):
    def __init__(self, backbone: torch.nn.Module, feature: str):
        super().__init__()
        self.backbone, self.feature = backbone, feature

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.backbone(x)[self.feature]


class _Mapped(torch.utils.data.Dataset):
    def __init__(self, mapper: Callable, records: list[dict]):
        self.mapper, self.records = mapper, records

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor]:
        read = self.mapper(self.records[i])
        return read["image"], read["labels"]


def _read_forever(dataset: _Mapped, batch_size: int) -> Iterator:
    while True:
        yield from DataLoader(dataset, batch_size, shuffle=True, drop_last=True)


STEPS = {OURS: make_our_step, BARE: make_bare_step}


def measure_memory(name: str, options: argparse.Namespace) -> float:
    """Return the peak in MB of a few steps in this process, which has to be a fresh one."""
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        step = STEPS[name](load(options, Path(folder)), Path(folder))
        for _ in range(3):
            step()
    return peak_memory()


def in_fresh_process(name: str, options: argparse.Namespace) -> float:
    command = [sys.executable, "-W", "ignore", __file__, "--job", json.dumps([name, vars(options)])]
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def compare_steps(options: argparse.Namespace, folder: Path) -> str:
    cfgs = {name: load(options, folder) for name in STEPS}
    found = measure_in_turns({name: STEPS[name](cfgs[name], folder) for name in STEPS}, options.rounds)
    ratio, batch = median_ratio(found[OURS], found[BARE]), cfgs[OURS].train.batch_size
    memory = {name: in_fresh_process(name, options) for name in STEPS}
    rows = []
    for name, seconds in found.items():
        cpu, wall = 1000 * torch.tensor(seconds).median(0).values / batch
        rows.append([name, f"{cpu:.2f}", f"{wall:.2f}", f"{memory[name]:.0f}"])
    rows.append(["ratio", *(f"{x:.3f}" for x in ratio), f"{memory[OURS] / memory[BARE]:.3f}"])
    headers = ["step", "CPU, ms a photo", "clock, ms a photo", "peak memory, MB"]
    return tabulate(rows, headers, tablefmt="pipe", disable_numparse=True)


def compare_loaders(options: argparse.Namespace, folder: Path) -> str:
    """Images/s on the clock of the loader with each augmentation, and of steps on batches that are in memory."""
    cfg, rows = load(options, folder), []
    cfg.dataloader.train.num_workers = options.workers
    for title, changes in AUGMENTATIONS.items():
        for key, value in changes.items():
            parent, _, leaf = key.rpartition(".")
            cfg.dataloader.train[parent][leaf] = value
        loader = iter(instantiate(cfg.dataloader.train))
        batch = next(loader)  # the workers have started
        started = time.perf_counter()
        for _ in islice(loader, options.batches):
            pass
        rows.append([title, options.batches * cfg.train.batch_size / (time.perf_counter() - started)])
        del loader
    trainer = make_trainer(cfg, build(cfg, folder).train(), batch)
    trainer.data_loader = repeat(batch)
    (seconds,) = measure_in_turns({"network": trainer.run_step}, options.rounds).values()
    rows.append(["network alone", cfg.train.batch_size / float(torch.tensor(seconds)[:, 1].median())])
    return tabulate(rows, [f"{options.workers} workers", "images/s"], tablefmt="pipe", floatfmt=".0f")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", help="a dataset in $DETECTRON2_DATASETS")
    parser.add_argument("--recipe", default="efficientnet_lite0")
    parser.add_argument("--batch-size", type=int, help="default: the recipe's")
    parser.add_argument("--rounds", type=int, default=10, help="steps of each")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batches", type=int, default=20, help="of a loader's rate")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--job", type=json.loads, help=argparse.SUPPRESS)  # used by in_fresh_process
    options = parser.parse_args()
    if options.job:
        print(json.dumps(measure_memory(options.job[0], argparse.Namespace(**options.job[1]))))
        return
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        print(compare_steps(options, Path(folder)), compare_loaders(options, Path(folder)), sep="\n\n")


if __name__ == "__main__":
    main()
