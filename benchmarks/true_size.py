#!/usr/bin/env python
"""Time, peak memory, FLOPs and fraction of matmul peak of the paper's models at full size, relative to S-Cls inference.

    python benchmarks/true_size.py --threads 1 --profile

Uses the VGG16 recipes on MS-COCO (500 proposals, 80 classes) on the CPU, in float32, one image per step. Weights and
the image are random. Proposals are seeded: areas from 1 % to 80 % of the image, aspect ratios from 1:2 to 2:1. Inputs
come from the config's mapper, training steps (forward, backward, optimizer) from the config's trainer; image reading is
not measured. Each case runs in a separate process.

Time is the median over the repeats, after one warm-up: CPU time of the process with one thread, wall time with several.
Memory is the peak resident size (VmHWM, Linux) of the process, including libraries and model construction; the memory
before construction is printed below the table. FLOPs are twice the multiply-adds that fvcore counts in the forward
pass; a training step adds twice the forward FLOPs of the trained part. The matmul peak is measured in the same process,
in float32.
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
from detectron2.config import instantiate
from detectron2.structures import BoxMode
from detectron2.utils.events import EventStorage
from fvcore.nn import FlopCountAnalysis
from PIL import Image
from tabulate import tabulate
from torch import nn

from wsd_distill.distillation import Distiller
from wsd_distill.engine import load_config, to_device

CONFIGS = Path(__file__).resolve().parents[1] / "configs" / "vgg16"
HEIGHT, WIDTH = 480, 640  # of the image file
BASE = "student-inference"  # reference case
CASES = {  # name -> recipe; all but inference cases are training steps
    BASE: "student",
    "student": "student",
    "teacher-inference": "teacher",
    "teacher": "teacher",
    "stage1": "stage1",
    "stage2": "stage2",
}
PARTS = {  # last component of a module's name -> part of the model
    "backbone": "backbone",
    "box_pooler": "RoI pooling",
    "teacher_poolers": "RoI pooling",
    "student_poolers": "RoI pooling",
    "head": "fc6 and fc7",
    "cls_branch": "branches",
    "det_branch": "branches",
    "classifier": "classifier",
}


def load_case(case: str, side: int, options: argparse.Namespace):
    """Load the config of a case, with T-WDet at size ``side`` and one image per step."""
    cfg = load_config(str(CONFIGS / f"{CASES[case]}.py"), ["dataset.name=coco_2014"])
    cfg.dataset.update(num_classes=options.classes, class_names=[f"class {k}" for k in range(options.classes)])
    cfg.trainer.update(accumulate=1, amp=False)
    cfg.train.device = "cpu"
    mapper = cfg.dataloader.train.mapper
    mapper.num_proposals, mapper.is_train = options.proposals, not case.endswith("inference")
    if case.startswith("teacher"):
        mapper.sizes = [side]
        cfg.model.head.dims = [options.width] * 2
        return cfg
    mapper.sizes = [options.student_side]
    cfg.model.head.update(dims=[options.width] * 2, input_shape=[512, *[options.student_side // 16] * 2])
    if case.startswith("stage"):
        mapper.teacher_sizes = [side]
        cfg.distiller.teacher.head.dims = [options.width] * 2
    return cfg


def random_proposals(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (count, 4) XYXY boxes inside the image and (count,) falling scores, seeded."""
    rng = np.random.default_rng(0)
    area = np.exp(rng.uniform(np.log(0.01), np.log(0.8), count))
    aspect = np.exp(rng.uniform(np.log(0.5), np.log(2), count))
    shape = np.sqrt(np.stack([area * aspect, area / aspect], axis=1)).clip(max=1) * [WIDTH, HEIGHT]
    corner = rng.random((count, 2)) * ([WIDTH, HEIGHT] - shape)
    boxes = np.concatenate([corner, corner + shape], axis=1).astype(np.float32)
    return boxes, np.sort(rng.random(count, dtype=np.float32))[::-1].copy()


def make_batch(cfg, folder: Path) -> list[dict]:
    """Map one random image with the config's mapper."""
    pixels = np.random.default_rng(0).integers(256, size=(HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "noise.png")
    record = {"file_name": str(folder / "noise.png"), "image_id": 0, "height": HEIGHT, "width": WIDTH, "labels": [0]}
    boxes, scores = random_proposals(cfg.dataloader.train.mapper.num_proposals)
    record.update(proposal_boxes=boxes, proposal_objectness_logits=scores, proposal_bbox_mode=BoxMode.XYXY_ABS)
    return [instantiate(cfg.dataloader.train.mapper)(record)]


def build(cfg, folder: Path) -> nn.Module:
    """Build the model that tools/train_net.py trains; a Distiller gets a teacher with random weights."""
    model = to_device(instantiate(cfg.model), cfg.train.device, cfg.train.channels_last)
    if "distiller" not in cfg:
        return model
    checkpoint = folder / "teacher.pth"
    torch.save({"model": instantiate(cfg.distiller.teacher).state_dict()}, checkpoint)
    cfg.distiller.update(student=model, teacher_checkpoint=str(checkpoint))
    unwrapped_model = instantiate(cfg.distiller).to(cfg.train.device)
    to_device(unwrapped_model.teacher, cfg.train.device, cfg.train.channels_last)
    return unwrapped_model


def make_trainer(cfg, unwrapped_model: nn.Module, batch: list[dict]):
    """Build the config's trainer with ``batch`` as its only data, ready for ``run_step``."""
    cfg.optimizer.params.model = unwrapped_model
    cfg.trainer.update(model=unwrapped_model, optimizer=instantiate(cfg.optimizer))
    if "teacher_check" in cfg.trainer:
        cfg.trainer.teacher_check = None  # only used by train()
    trainer = instantiate(cfg.trainer)
    trainer.data_loader, trainer.storage = itertools.repeat(batch), EventStorage()
    return trainer


class Forward(nn.Module):
    """A traceable forward pass; also registers the teacher, which is not a submodule of a Distiller."""

    def __init__(self, unwrapped_model: nn.Module, batch: list[dict]):
        super().__init__()
        self.unwrapped_model, self.batch = unwrapped_model, batch
        self.teacher = unwrapped_model.teacher if isinstance(unwrapped_model, Distiller) else None

    def forward(self, _):
        found = self.unwrapped_model(self.batch)
        if self.unwrapped_model.training:
            return tuple(found.values())
        detected = [x["instances"].scores for x in found if "instances" in x]  # otherwise tracing skips the NMS
        return (*(x["image_scores"] for x in found), *detected)

    def parts(self) -> Iterator[tuple[str, str, nn.Module]]:
        """Yield (part, module name, module) for all modules in PARTS."""
        for name, module in self.named_modules():
            part = PARTS.get(name.split(".")[-1])
            if part:
                yield (f"teacher: {part}" if name.startswith("teacher.") else part), name, module


class Stopwatch:
    """Splits the time of a step into parts that add up to the total.

    In the forward pass time is assigned to the module that runs. In the backward pass time is assigned to a part from
    when the gradient of its output is available until that of another part is.
    """

    def __init__(self, forward: Forward, clock: Callable[[], float]):
        self.clock = clock
        self._reset()
        for part, _, module in forward.parts():
            for called in module if isinstance(module, nn.ModuleList) else [module]:
                called.register_forward_pre_hook(lambda *_, part=part: self._enter(part))
                called.register_forward_hook(lambda *call, part=part: self._leave(part, call[-1]))

    def time(self, step: Callable[[], object]) -> dict[str, float]:
        """Run a step and return the seconds of each part."""
        self._reset()
        step()
        self._add_elapsed()
        return dict(self.seconds)

    def switch(self, part: str) -> None:
        """Assign the time from now on to ``part``."""
        self._add_elapsed()
        self.running[-1] = part

    def _reset(self) -> None:
        self.seconds, self.running, self.since = Counter(), ["rest"], self.clock()

    def _add_elapsed(self) -> None:
        now = self.clock()
        self.seconds[self.running[-1]] += now - self.since
        self.since = now

    def _enter(self, part: str) -> None:
        self._add_elapsed()
        self.running.append(part)

    def _leave(self, part: str, output) -> None:
        self._add_elapsed()
        self.running.pop()
        for tensor in output.values() if isinstance(output, dict) else [output]:
            if tensor.requires_grad:
                tensor.register_hook(lambda _: self.switch(backward(part)))


def backward(part: str) -> str:
    return f"{part}, backward"


def count_flops(forward: Forward, training: bool) -> dict:
    """Count FLOPs of a step and of its parts, and the calls of unsupported operators."""
    analysis = FlopCountAnalysis(forward, (torch.zeros(1),)).unsupported_ops_warnings(False)
    analysis.uncalled_modules_warnings(False)
    parts = Counter()
    for part, name, _ in forward.parts():
        flops = 2 * analysis.total(name)
        parts[part] += flops
        if training and name.startswith("unwrapped_model."):
            parts[backward(part)] += 2 * flops
    total = 2 * analysis.total() + (2 * 2 * analysis.total("unwrapped_model") if training else 0)
    return {"flops": total, "part_flops": dict(parts), "not_counted": dict(analysis.unsupported_ops())}


def matmul_peak(clock: Callable[[], float], size: int = 2048, repeats: int = 5) -> float:
    """Return the FLOP/s of the fastest of several float32 matrix products."""
    a, b = torch.rand(size, size), torch.rand(size, size)
    seconds = []
    for _ in range(repeats):
        started = clock()
        torch.mm(a, b)
        seconds.append(clock() - started)
    return 2 * size**3 / min(seconds)


def peak_memory() -> float:
    """Return the peak resident size of this process in MB; getrusage would include the parent process."""
    (line,) = (x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def measure(case: str, side: int, options: argparse.Namespace) -> dict:
    """Measure one case; needs a fresh process."""
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    before, training = peak_memory(), not case.endswith("inference")
    with tempfile.TemporaryDirectory() as folder:
        cfg = load_case(case, side, options)
        unwrapped_model, batch = build(cfg, Path(folder)), make_batch(cfg, Path(folder))
    forward = Forward(unwrapped_model.train(training), batch)
    clock = time.process_time if options.threads == 1 else time.perf_counter
    watch = Stopwatch(forward, clock)
    if training:
        trainer = make_trainer(cfg, unwrapped_model, batch)
        trainer.optimizer.register_step_pre_hook(lambda *_: watch.switch("optimizer"))
        step = trainer.run_step
    else:
        step = torch.no_grad()(lambda: unwrapped_model(batch))
    steps = []
    for i in range(options.repeats + 1):
        steps.append(watch.time(step))
        print(f"{case}: {i} of {options.repeats}, {sum(steps[-1].values()):.2f} s", file=sys.stderr, flush=True)
    parts = sorted(steps[1:], key=lambda each: sum(each.values()))[(options.repeats - 1) // 2]
    found = {"case": case, "side": batch[0].get("teacher", batch[0])["image"].shape[-1]}
    found.update(seconds=sum(parts.values()), parts=parts, memory=peak_memory(), memory_before=before)
    return {**found, **count_flops(forward, training), "peak": matmul_peak(clock)}


def in_fresh_process(case: str, side: int, options: argparse.Namespace) -> dict:
    """Run ``measure`` in a new process."""
    command = [sys.executable, "-W", "ignore", __file__, "--job", json.dumps([case, side, vars(options)])]
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def fraction_of_peak(flops: float, seconds: float, peak: float) -> str:
    return f"{100 * flops / seconds / peak:.0f} %" if flops else ""


def summary(results: list[dict]) -> str:
    """Format one row per case; ``x`` is the ratio to the first case."""
    base, rows = results[0], []
    for r in results:
        row = [r["case"], r["side"]]
        for key, unit in (("seconds", 1), ("flops", 1e9), ("memory", 1)):
            row += [r[key] / unit, r[key] / base[key]]
        rows.append([*row, fraction_of_peak(r["flops"], r["seconds"], r["peak"])])
    headers = ["case", "side", "time, s", "x", "GFLOPs", "x", "memory, MB", "x", "of the peak"]
    formats = ("", "", ".3f", ".1f", ".1f", ".1f", ".0f", ".1f", "")
    return tabulate(rows, headers, tablefmt="pipe", floatfmt=formats, colalign=["left", *["right"] * 8])


def profile(r: dict) -> str:
    """Format the time of each part of a case, slowest first."""
    parts = sorted(r["parts"].items(), key=lambda item: -item[1])
    rows = [
        [part, s, f"{100 * s / r['seconds']:.1f} %", fraction_of_peak(r["part_flops"].get(part, 0), s, r["peak"])]
        for part, s in parts
    ]
    headers = [f"{r['case']} at {r['side']}", "time, s", "of the time", "of the peak"]
    return tabulate(rows, headers, tablefmt="pipe", floatfmt=".3f", colalign=["left", *["right"] * 3])


def notes(results: list[dict], threads: int) -> str:
    peaks = [r["peak"] / 1e9 for r in results]
    missing = sorted(set().union(*(r["not_counted"] for r in results)))
    return (
        f"Threads: {threads}; one image per step. Peak: {min(peaks):.0f} to {max(peaks):.0f} GFLOP/s. Memory before "
        f"model construction: {max(r['memory_before'] for r in results):.0f} MB. Not counted: {', '.join(missing)}."
    )


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shown = " (default: %(default)s)"
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES), help=f"{BASE} always runs")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of PyTorch" + shown)
    parser.add_argument("--repeats", type=int, default=3, help="measured steps" + shown)
    parser.add_argument("--side", type=int, default=672, help="size of T-WDet's input" + shown)
    parser.add_argument("--largest-side", type=int, default=832, help="second size for training T-WDet" + shown)
    parser.add_argument("--student-side", type=int, default=224, help="size of S-Cls's input" + shown)
    parser.add_argument("--proposals", type=int, default=500, help="per image" + shown)
    parser.add_argument("--classes", type=int, default=80, help=shown.strip())
    parser.add_argument("--width", type=int, default=4096, help="of fc6 and fc7" + shown)
    parser.add_argument("--profile", action="store_true", help="print the time of each part")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all measurements to this file")
    parser.add_argument("--job", type=json.loads, help=argparse.SUPPRESS)  # used by in_fresh_process
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
