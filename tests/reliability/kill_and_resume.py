#!/usr/bin/env python
"""Kill the pipeline at random moments and compare its end with that of an uninterrupted one, bit by bit.

    python tests/reliability/kill_and_resume.py --kills 50 [--seed 0] [--output FOLDER]

Stages on a few scenes of digit_scenes: proposals, T-WDet, stage 1 (which fills the teacher's cache) and stage 2, each
with its evaluation and a loader process. A stage is killed by SIGKILL at random moments of its duration and started
again with --resume; what it leaves must be equal to what a folder without kills has: weights, their averages, states
of the optimizer, temperatures and adapters, metrics, scores, stores and the cache. Exit code 1 if anything differs.
Stages are forks of this process, which saves the time of imports.
"""

from __future__ import annotations

# isort: split
import argparse
import importlib
import multiprocessing
import os
import random
import runpy
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import LazyConfig

from wsd_distill.data.datasets import digit_scenes

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("proposals", "teacher", "stage1", "stage2")
TRAIN = [
    "train.epochs=2",
    "train.batch_size=4",
    "train.checkpointer.period=4",
    "train.eval_period=7",
    "train.log_period=1",
    "train.device=cpu",
    "trainer.amp=False",
    "trainer.accumulate=2",
    "dataset.flip_prob=0.5",
    "dataloader.train.num_workers=1",
    "dataloader.train.mapper.sizes=[32,40]",
]
TEACHER = [*TRAIN, "dataloader.train.mapper.sizes=[64,96]", "trainer.ema=0.9"]
STAGE2 = [*TRAIN, "trainer.ema=0.9", "trainer.ema_warmup=False"]


def command(stage: str, folder: Path) -> list[str]:
    """Return the command line of a stage whose files are in ``folder``."""
    if stage == "proposals":
        config = ["--config-file", "configs/small/teacher.py", "image_proposals.proposer.max_boxes=16"]
        return ["tools/generate_proposals.py", "--num-workers", "0", *config]
    words = ["tools/train_net.py", "--resume", "--config-file", f"configs/small/{stage}.py"]
    words += [f"train.output_dir={folder / stage}", *{"teacher": TEACHER, "stage2": STAGE2}.get(stage, TRAIN)]
    if stage != "teacher":
        words += [f"distiller.teacher_checkpoint={folder}/teacher/model_final.pth"]
        words += ["trainer.teacher_check.warn_only=True"]
    return [*words, f"train.init_checkpoint={folder}/stage1/model_final.pth"] if stage == "stage2" else words


def run_stage(stage: str, folder: Path) -> None:
    """Run the tool of a stage in this process; its output is appended to a log."""
    with open(folder / f"{stage}.txt", "a") as log:
        os.dup2(log.fileno(), sys.stdout.fileno())
        os.dup2(log.fileno(), sys.stderr.fileno())
    os.chdir(ROOT)
    os.environ["DETECTRON2_DATASETS"] = str(folder / "datasets")
    torch.set_num_threads(1)
    digit_scenes.IMAGES.update(train=24, val=8, test=8)
    sys.argv = command(stage, folder)
    runpy.run_path(sys.argv[0], run_name="__main__")


def start(stage: str, folder: Path) -> multiprocessing.Process:
    folder.mkdir(parents=True, exist_ok=True)
    process = multiprocessing.get_context("fork").Process(target=run_stage, args=(stage, folder))
    process.start()
    return process


def check(process: multiprocessing.Process, stage: str, folder: Path) -> None:
    if process.exitcode != 0:
        log = folder / f"{stage}.txt"
        raise SystemExit(f"{log.read_text()[-3000:]}\n{stage} failed: {log}")


def finish(stage: str, folder: Path) -> float:
    """Run a stage to its end; return its seconds."""
    begin = time.monotonic()
    process = start(stage, folder)
    process.join()
    check(process, stage, folder)
    return time.monotonic() - begin


def kill(stage: str, folder: Path, seconds: float) -> bool:
    """Start a stage and kill it after ``seconds``; return False if it ended before."""
    process = start(stage, folder)
    process.join(seconds)
    if process.exitcode is None:
        process.kill()
        process.join()
        return True
    check(process, stage, folder)
    return False


def read_results(stage: str, folder: Path) -> dict[str, Any]:
    """Read what a stage leaves, by name; tensors, arrays, and bytes of files."""
    if stage == "proposals":
        stores = sorted((folder / "datasets").rglob("*.arrow"))
        return {store.name: store.read_bytes() for store in stores}
    run = folder / stage
    found = dict(_tensors(torch.load(run / "model_final.pth", map_location="cpu", weights_only=True)))
    cache = [path for path in (folder / "teacher" / "teacher_cache").glob("*") if path.suffix in (".npy", ".rows")]
    files = [run / "results.json", *sorted(cache)]
    found.update({path.name: path.read_bytes() for path in files})
    for path in sorted(run.glob("inference/*/scores.npz")):
        with np.load(path) as content:
            found.update({f"{path.parent.name} {name}": content[name] for name in content.files})
    return found


def _tensors(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, (dict, list, tuple)):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from _tensors(value, f"{prefix}.{key}")
    else:
        yield prefix, node


def differences(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """Return names of results that are not equal, bit by bit."""

    def equal(a: Any, b: Any) -> bool:
        if isinstance(a, torch.Tensor):
            return a.dtype == b.dtype and torch.equal(a, b)
        return a.tobytes() == b.tobytes() if isinstance(a, np.ndarray) else a == b

    return [
        name
        for name in {**found, **expected}
        if found.keys() != expected.keys() or not equal(found[name], expected[name])
    ]


def preload() -> None:
    """Import what the stages need, so that their forks have it already."""
    importlib.import_module("torch.utils.tensorboard")
    for stage in STAGES[1:]:
        LazyConfig.load(str(ROOT / "configs" / "small" / f"{stage}.py"))


def compare(kills: int, seed: int, stages: Sequence[str], output: Path) -> dict[str, tuple[int, int, list[str]]]:
    """Return stage -> number of kills, of comparisons, and names of results that differed."""
    rng, clean = random.Random(seed), output / "uninterrupted"
    seconds, expected = {}, {}
    for stage in stages:
        seconds[stage] = finish(stage, clean)
        expected[stage] = read_results(stage, clean)
        print(f"{stage}: {seconds[stage]:.1f} s without a kill, {len(expected[stage])} results", flush=True)
    count = {stage: 0 for stage in stages}
    compared, different = dict(count), {stage: [] for stage in stages}
    rounds = 0
    while sum(count.values()) < kills:
        rounds += 1
        folder = output / f"round{rounds}"
        for stage in stages:
            for _ in range(3):  # so that every stage gets its share
                if sum(count.values()) == kills or not kill(stage, folder, rng.uniform(0, seconds[stage])):
                    break
                count[stage] += 1
            finish(stage, folder)
            compared[stage] += 1
            found = differences(read_results(stage, folder), expected[stage])
            different[stage] += found
            print(f"round {rounds}, {stage}: {count[stage]} kills so far, equal: {not found}", flush=True)
        if not any(different.values()):
            shutil.rmtree(folder)
    return {stage: (count[stage], compared[stage], different[stage]) for stage in stages}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="(default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default %(default)s)")
    parser.add_argument("--stages", nargs="+", default=STAGES, choices=STAGES, help="each needs those before it")
    parser.add_argument("--output", type=Path, help="folder that is kept (default: a temporary one)")
    arguments = parser.parse_args()
    preload()
    with tempfile.TemporaryDirectory() as folder:
        results = compare(arguments.kills, arguments.seed, arguments.stages, arguments.output or Path(folder))
    print(f"\n{'stage':<12}{'kills':>6}{'compared':>10}{'equal':>8}")
    for stage, (kills, compared, different) in results.items():
        print(f"{stage:<12}{kills:>6}{compared:>10}{'no' if different else 'yes':>8}")
    faults = [f"{stage}: {', '.join(different[:10])}" for stage, (_, _, different) in results.items() if different]
    if faults:
        raise SystemExit("\n".join(faults))


if __name__ == "__main__":
    main()
