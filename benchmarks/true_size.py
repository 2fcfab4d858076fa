#!/usr/bin/env python
"""Time, peak memory, FLOPs and share of the matmul peak of the paper's models at full size, beside S-Cls inference.

    python benchmarks/true_size.py --threads 1 --profile

The configs of MS-COCO (VGG16, 500 proposals, 80 classes) on the CPU, in float32, one image at a time. Weights are
random, the image is noise, proposals are seeded: areas from 1 % to 80 % of the image, aspect ratios from 1:2 to 2:1.
Inputs come from the config's mapper, steps (forward, backward, optimizer) are those of the config's trainer; reading
the image is not counted. Every case has a process of its own.

Time is that of the median of the repeats, after a turn that is not counted: with one thread the CPU time of the
process, which other work on the machine lengthens little, with several that of a clock. Memory is the largest resident
size (VmHWM, Linux) in the life of the process, the building of the models and the libraries included; how much it was
before any model is said below the table. FLOPs are twice the multiply-adds that fvcore counts in the forward pass, and
for a step twice as many again for each that belongs to what is trained. The peak is that of a float32 matmul in the
same process.
"""

import wsd_distill  # noqa: F401  (first: it patches Detectron2 0.6 for a current PyTorch)

# isort: split
import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from detectron2.config import LazyConfig, instantiate
from detectron2.structures import BoxMode
from detectron2.utils.events import EventStorage
from fvcore.nn import FlopCountAnalysis
from PIL import Image
from tabulate import tabulate
from torch import nn

from wsd_distill.distillation import Distiller
from wsd_distill.engine import place

CONFIGS = Path(__file__).resolve().parents[1] / "configs" / "coco"
HEIGHT, WIDTH = 480, 640  # of the image's file
BASE = "student-inference"  # what all others are compared with
CASES = {  # name -> config; all but those for inference are steps of training
    BASE: "student_vgg16",
    "student": "student_vgg16",
    "teacher-inference": "teacher_vgg16_edgeboxes",
    "teacher": "teacher_vgg16_edgeboxes",
    "stage1": "stage1_vgg16_edgeboxes",
    "stage2": "stage2_vgg16_edgeboxes",
}
PARTS = {  # of a model, by the last word of a module's name
    "backbone": "backbone",
    "box_pooler": "RoI pooling",
    "teacher_poolers": "RoI pooling",
    "student_poolers": "RoI pooling",
    "head": "fc6 and fc7",
    "cls_branch": "branches",
    "det_branch": "branches",
    "classifier": "classifier",
}


def load_config(case: str, side: int, options: argparse.Namespace):
    """The config of a case with T-WDet at ``side``, one image a step, and no file to start from."""
    cfg = LazyConfig.load(str(CONFIGS / f"{CASES[case]}.py"))
    cfg.dataset.num_classes = options.classes
    cfg.trainer.update(accumulate=1, amp=False)
    mapper = cfg.dataloader.train.mapper
    mapper.num_proposals, mapper.is_train = options.proposals, not case.endswith("inference")
    if case.startswith("teacher"):
        mapper.sides = [side]
        cfg.model.head.dims = [options.width] * 2
        return cfg
    mapper.sides = [options.student_side]
    cfg.model.head.update(dims=[options.width] * 2, input_shape=[512, *[options.student_side // 16] * 2])
    if case.startswith("stage"):
        mapper.teacher_sizes = [side]
        cfg.distiller.teacher.head.dims = [options.width] * 2
    return cfg


def random_proposals(count: int) -> tuple[np.ndarray, np.ndarray]:
    """(count, 4) boxes XYXY within the image and (count,) falling scores, the same in every run."""
    rng = np.random.default_rng(0)
    area = np.exp(rng.uniform(np.log(0.01), np.log(0.8), count))
    aspect = np.exp(rng.uniform(np.log(0.5), np.log(2), count))
    shape = np.sqrt(np.stack([area * aspect, area / aspect], axis=1)).clip(max=1) * [WIDTH, HEIGHT]
    corner = rng.random((count, 2)) * ([WIDTH, HEIGHT] - shape)
    boxes = np.concatenate([corner, corner + shape], axis=1).astype(np.float32)
    return boxes, np.sort(rng.random(count, dtype=np.float32))[::-1].copy()


def make_batch(cfg, folder: Path) -> list[dict]:
    """One image as the config's mapper gives it."""
    pixels = np.random.default_rng(0).integers(256, size=(HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "noise.png")
    record = {"file_name": str(folder / "noise.png"), "image_id": 0, "height": HEIGHT, "width": WIDTH, "labels": [0]}
    boxes, scores = random_proposals(cfg.dataloader.train.mapper.num_proposals)
    record.update(proposal_boxes=boxes, proposal_objectness_logits=scores, proposal_bbox_mode=BoxMode.XYXY_ABS)
    return [instantiate(cfg.dataloader.train.mapper)(record)]


def build(cfg, folder: Path) -> nn.Module:
    """What tools/train_net.py would train; a Distiller reads a teacher with random weights from a checkpoint."""
    model = place(instantiate(cfg.model), "cpu", cfg.train.channels_last)
    if "distiller" not in cfg:
        return model
    checkpoint = folder / "teacher.pth"
    torch.save({"model": instantiate(cfg.distiller.teacher).state_dict()}, checkpoint)
    cfg.distiller.update(student=model, teacher_checkpoint=str(checkpoint))
    unwrapped_model = instantiate(cfg.distiller)
    place(unwrapped_model.teacher, "cpu", cfg.train.channels_last)
    return unwrapped_model


def make_trainer(cfg, unwrapped_model: nn.Module, batch: list[dict]):
    """The config's trainer, ready for its ``run_step``, which takes ``batch`` every time."""
    cfg.optimizer.params.model = unwrapped_model
    cfg.trainer.update(model=unwrapped_model, optimizer=instantiate(cfg.optimizer))
    if "teacher_check" in cfg.trainer:
        cfg.trainer.teacher_check = None  # train() would ask it
    trainer = instantiate(cfg.trainer)
    trainer.data_loader, trainer.storage = itertools.repeat(batch), EventStorage()
    return trainer


class Forward(nn.Module):
    """A forward pass that can be traced, of a learner and, beside it, of the teacher that a Distiller keeps outside."""

    def __init__(self, unwrapped_model: nn.Module, batch: list[dict]):
        super().__init__()
        self.unwrapped_model, self.batch = unwrapped_model, batch
        self.teacher = unwrapped_model.teacher if isinstance(unwrapped_model, Distiller) else None

    def forward(self, _):
        found = self.unwrapped_model(self.batch)
        if self.unwrapped_model.training:
            return tuple(found.values())
        detected = [x["instances"].scores for x in found if "instances" in x]  # or tracing would leave out the NMS
        return (*(x["image_scores"] for x in found), *detected)

    def parts(self) -> Iterator[tuple[str, str, nn.Module]]:
        """The part's name, the module's and the module, of everything in PARTS."""
        for name, module in self.named_modules():
            part = PARTS.get(name.split(".")[-1])
            if part:
                yield (f"teacher: {part}" if name.startswith("teacher.") else part), name, module


class Stopwatch:
    """Where the time of a turn goes. The clock runs for one part at any moment, so that parts add up to the whole.

    In the forward pass it runs for the module that is called; in the backward pass for a part from the moment when the
    gradient of its output is there to the moment when that of another's is.
    """

    def __init__(self, forward: Forward, clock: Callable[[], float]):
        self.clock = clock
        self._reset()
        for part, _, module in forward.parts():
            for called in module if isinstance(module, nn.ModuleList) else [module]:
                called.register_forward_pre_hook(lambda *_, part=part: self._enter(part))
                called.register_forward_hook(lambda *call, part=part: self._leave(part, call[-1]))

    def time(self, turn: Callable[[], object]) -> dict[str, float]:
        """Seconds of each part of a turn."""
        self._reset()
        turn()
        self._count()
        return dict(self.seconds)

    def switch(self, part: str) -> None:
        self._count()
        self.running[-1] = part

    def _reset(self) -> None:
        self.seconds, self.running, self.since = Counter(), ["rest"], self.clock()

    def _count(self) -> None:
        now = self.clock()
        self.seconds[self.running[-1]] += now - self.since
        self.since = now

    def _enter(self, part: str) -> None:
        self._count()
        self.running.append(part)

    def _leave(self, part: str, output) -> None:
        self._count()
        self.running.pop()
        for tensor in output.values() if isinstance(output, dict) else [output]:
            if tensor.requires_grad:
                tensor.register_hook(lambda _: self.switch(backward(part)))


def backward(part: str) -> str:
    return f"{part}, backward"


def count_flops(forward: Forward, training: bool) -> dict:
    """FLOPs of a turn, of its parts, and how often it has operators that are none (not counted)."""
    analysis = FlopCountAnalysis(forward, (torch.zeros(1),)).unsupported_ops_warnings(False)
    analysis.uncalled_modules_warnings(False)
    parts = Counter()
    for part, name, _ in forward.parts():
        flops = 2 * analysis.total(name)
        parts[part] += flops
        if training and name.startswith("learner."):
            parts[backward(part)] += 2 * flops
    total = 2 * analysis.total() + (2 * 2 * analysis.total("learner") if training else 0)
    return {"flops": total, "part_flops": dict(parts), "not_counted": dict(analysis.unsupported_ops())}


def matmul_peak(clock: Callable[[], float], size: int = 2048, repeats: int = 5) -> float:
    """FLOP/s of the fastest of some products of two float32 matrices."""
    a, b = torch.rand(size, size), torch.rand(size, size)
    seconds = []
    for _ in range(repeats):
        started = clock()
        torch.mm(a, b)
        seconds.append(clock() - started)
    return 2 * size**3 / min(seconds)


def peak_memory() -> float:
    """MB, the most that this process has had in memory so far; getrusage's figure would count its parent's too."""
    (line,) = (x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def measure(case: str, side: int, options: argparse.Namespace) -> dict:
    """Everything about one case, in a process that has done nothing else."""
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    before, training = peak_memory(), not case.endswith("inference")
    with tempfile.TemporaryDirectory() as folder:
        cfg = load_config(case, side, options)
        unwrapped_model, batch = build(cfg, Path(folder)), make_batch(cfg, Path(folder))
    forward = Forward(unwrapped_model.train(training), batch)
    clock = time.process_time if options.threads == 1 else time.perf_counter
    watch = Stopwatch(forward, clock)
    if training:
        trainer = make_trainer(cfg, unwrapped_model, batch)
        trainer.optimizer.register_step_pre_hook(lambda *_: watch.switch("optimizer"))
        turn = trainer.run_step
    else:
        turn = torch.no_grad()(lambda: unwrapped_model(batch))
    turns = []
    for i in range(options.repeats + 1):
        turns.append(watch.time(turn))
        print(f"{case}: {i} of {options.repeats}, {sum(turns[-1].values()):.2f} s", file=sys.stderr, flush=True)
    parts = sorted(turns[1:], key=lambda each: sum(each.values()))[(options.repeats - 1) // 2]
    found = {"case": case, "side": batch[0].get("teacher", batch[0])["image"].shape[-1]}
    found.update(seconds=sum(parts.values()), parts=parts, memory=peak_memory(), memory_before=before)
    return {**found, **count_flops(forward, training), "peak": matmul_peak(clock)}


def in_fresh_process(case: str, side: int, options: argparse.Namespace) -> dict:
    command = [sys.executable, "-W", "ignore", __file__, "--job", json.dumps([case, side, vars(options)])]
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def share_of_peak(flops: float, seconds: float, peak: float) -> str:
    return f"{100 * flops / seconds / peak:.0f} %" if flops else ""


def summary(results: list[dict]) -> str:
    """One row a case, ``x`` being times the first one's figure."""
    base, rows = results[0], []
    for r in results:
        row = [r["case"], r["side"]]
        for key, unit in (("seconds", 1), ("flops", 1e9), ("memory", 1)):
            row += [r[key] / unit, r[key] / base[key]]
        rows.append([*row, share_of_peak(r["flops"], r["seconds"], r["peak"])])
    headers = ["case", "side", "time, s", "x", "GFLOPs", "x", "memory, MB", "x", "of the peak"]
    formats = ("", "", ".3f", ".1f", ".1f", ".1f", ".0f", ".1f", "")
    return tabulate(rows, headers, tablefmt="pipe", floatfmt=formats, colalign=["left", *["right"] * 8])


def profile(r: dict) -> str:
    """Where the time of a case goes, the slowest part first."""
    parts = sorted(r["parts"].items(), key=lambda item: -item[1])
    rows = [
        [part, s, f"{100 * s / r['seconds']:.1f} %", share_of_peak(r["part_flops"].get(part, 0), s, r["peak"])]
        for part, s in parts
    ]
    headers = [f"{r['case']} at {r['side']}", "time, s", "of the time", "of the peak"]
    return tabulate(rows, headers, tablefmt="pipe", floatfmt=".3f", colalign=["left", *["right"] * 3])


def notes(results: list[dict], threads: int) -> str:
    peaks = [r["peak"] / 1e9 for r in results]
    missing = sorted(set().union(*(r["not_counted"] for r in results)))
    return (
        f"Threads: {threads}; one image a turn. The peak: {min(peaks):.0f} to {max(peaks):.0f} GFLOP/s. Memory before "
        f"there is a model: {max(r['memory_before'] for r in results):.0f} MB. Not counted: {', '.join(missing)}."
    )


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shown = " (default: %(default)s)"
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES), help=f"{BASE} runs always")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of PyTorch" + shown)
    parser.add_argument("--repeats", type=int, default=3, help="turns that count" + shown)
    parser.add_argument("--side", type=int, default=672, help="of T-WDet's image" + shown)
    parser.add_argument("--largest-side", type=int, default=832, help="T-WDet is also trained at" + shown)
    parser.add_argument("--student-side", type=int, default=224, help="of S-Cls's image" + shown)
    parser.add_argument("--proposals", type=int, default=500, help="of an image" + shown)
    parser.add_argument("--classes", type=int, default=80, help=shown.strip())
    parser.add_argument("--width", type=int, default=4096, help="of fc6 and fc7" + shown)
    parser.add_argument("--profile", action="store_true", help="print where the time of each case goes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all that was measured")
    parser.add_argument("--job", type=json.loads, help=argparse.SUPPRESS)  # what a fresh process is to measure
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    if arguments.job:
        case, side, options = arguments.job
        print(json.dumps(measure(case, side, argparse.Namespace(**options))))
        return
    options = argparse.Namespace(**{k: v for k, v in vars(arguments).items() if k not in ("cases", "json", "job")})
    chosen = [(case, arguments.side) for case in CASES if case in arguments.cases or case == BASE]
    if "teacher" in arguments.cases:
        chosen.insert(chosen.index(("teacher", arguments.side)) + 1, ("teacher", arguments.largest_side))
    results = [in_fresh_process(*case, options) for case in chosen]
    print(summary(results), notes(results, options.threads), sep="\n\n")
    if arguments.profile:
        print(*("\n" + profile(r) for r in results), sep="\n")
    if arguments.json:
        arguments.json.write_text(json.dumps({**vars(options), "cases": results}, indent=1))


if __name__ == "__main__":
    main()
