"""Which students ``wsd train`` trains in a given time: measured step times, and a plan that fits."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import cast

import torch
from detectron2.config import instantiate
from detectron2.structures import Boxes, Instances
from omegaconf import DictConfig
from torch import nn

from wsd_distill.data.geometry import Geometry
from wsd_distill.engine import to_device
from wsd_distill.modeling import WSDDN

STEPS = 3  # timed, after one that is not
TEACHER = "teacher"  # part of a plan that candidates share
START = 15.0  # seconds of a training's start and evaluation


@dataclass(frozen=True)
class Candidate:
    """A way to train the student.

    Attributes:
        training: its name in ``TRAININGS``.
        title: for the user.
        teacher: "": none; "trunk": the ImageNet network at the teacher's size; "detector": the trained teacher.
        stage1: whether the recipe's stage 1 comes before the student's own epochs.
    """

    training: str
    title: str
    teacher: str = ""
    stage1: bool = False


CANDIDATES = (  # the cheapest first
    Candidate("student", "plain fine-tuning"),
    Candidate("region_consistent_trunk", "features of the ImageNet network at the teacher's size", "trunk"),
    Candidate("region_consistent", "features of the teacher", "detector"),
    Candidate("soft_labels", "scores of the teacher", "detector"),
    Candidate("stage2", "regions, then scores of the teacher (the paper)", "detector", stage1=True),
)


@dataclass(frozen=True)
class Work:
    """Photos and lengths that a plan cannot choose.

    Attributes:
        photos: tagged training photos.
        others: validation and test photos.
        teacher_epochs, stage1_epochs: of the recipe.
        unlabelled: photos without tags, which candidates with a teacher train on too.
    """

    photos: int
    others: int
    teacher_epochs: float
    stage1_epochs: float
    unlabelled: int = 0


@dataclass(frozen=True)
class Costs:
    """Seconds per photo at the sizes of a plan."""

    reading: float  # of a training photo
    student: float  # training step
    trunk: float  # forward pass of the student's network at the teacher's size
    teacher: float = 0.0  # training step of the teacher
    teacher_pass: float = 0.0
    proposals: float = 0.0


@dataclass(frozen=True)
class Plan:
    """What is trained, with an estimate of the seconds for each part.

    Attributes:
        size, teacher_size: sides in pixels of the square inputs.
        epochs: of the student.
        seconds: part -> estimate, in the order of work: the title of a candidate, or ``TEACHER``.
    """

    size: int
    teacher_size: int
    epochs: int
    candidates: tuple[Candidate, ...]
    seconds: dict[str, float] = field(default_factory=dict)

    def describe(self) -> str:
        """A table in plain text."""
        count = f"{self.epochs} epoch{'s' * (self.epochs != 1)}"
        lines = [f"plan: photos of {self.size} pixels, {count}; teacher: {self.teacher_size} pixels; estimated times:"]
        lines += [f"  {describe_time(seconds):>8}  {name}" for name, seconds in self.seconds.items()]
        return "\n".join([*lines, f"  {describe_time(sum(self.seconds.values())):>8}  in all"])


RESERVE = 0.15  # of the budget: measured steps are few, and other programs may slow down the later ones
SIZES = ((224, 672, 20), (160, 480, 20), (128, 384, 20), (128, 384, 10), (96, 288, 10), (64, 192, 5))


def choose_plan(
    budget: float | None,
    work: Work,
    measure: Callable[[int, int], Costs],
    candidates: Sequence[Candidate],
    default: tuple[int, int, int],
) -> Plan:
    """Choose the largest size and length at which plain fine-tuning and the cheapest distillation fit; then add more.

    Args:
        budget: seconds, of which ``RESERVE`` is left free; None for ``default`` and all candidates.
        work: numbers of photos, and the recipe's epochs of the teacher and of stage 1.
        measure: (size, teacher_size) -> costs.
        candidates: the cheapest first; the first is plain.
        default: size, teacher's size and epochs of the recipe.

    Raises:
        ValueError: not even plain fine-tuning at the smallest size fits; says what does.
    """
    if budget is None:
        return _fill(default, measure(*default[:2]), float("inf"), work, candidates)
    for option in SIZES:
        costs = measure(*option[:2])
        plan = _fill(option, costs, (1 - RESERVE) * budget, work, candidates)
        if len(plan.candidates) > 1:
            return plan
    if not plan.candidates:
        least = describe_time(sum(_seconds(candidates[0], option, costs, work).values()) / (1 - RESERVE))
        raise ValueError(
            f"--budget {describe_time(budget)} is too short for {work.photos} photos: the smallest training takes "
            f"about {least} with a reserve, give at least that"
        )
    return plan


def _fill(
    option: tuple[int, int, int],
    costs: Costs,
    budget: float,
    work: Work,
    candidates: Sequence[Candidate],
) -> Plan:
    seconds: dict[str, float] = {}
    chosen = []
    for candidate in candidates:
        more = {k: v for k, v in _seconds(candidate, option, costs, work).items() if k not in seconds}
        if sum(seconds.values()) + sum(more.values()) <= budget:
            chosen.append(candidate)
            seconds.update(more)
    size, teacher_size, epochs = option
    return Plan(size, teacher_size, epochs, tuple(chosen), seconds)


def _seconds(candidate: Candidate, option: tuple[int, int, int], costs: Costs, work: Work) -> dict[str, float]:
    """Estimate the seconds of a candidate and of what it needs."""
    epochs = option[2] + (work.stage1_epochs if candidate.stage1 else 0)
    photos = work.photos + (work.unlabelled if candidate.teacher else 0)
    step = costs.reading + costs.student
    own = photos * epochs * step + work.others * step / 3 + START
    own += START if candidate.stage1 else 0
    if candidate.teacher == "trunk":
        own += photos * (costs.reading + costs.trunk)
    if candidate.teacher != "detector":
        return {candidate.title: own}
    seen = photos + work.others
    passes = seen * costs.teacher_pass  # of the cache, and the evaluation
    training = work.photos * work.teacher_epochs * (costs.reading + costs.teacher)
    return {TEACHER: seen * costs.proposals + training + passes + START, candidate.title: own}


def describe_time(seconds: float) -> str:
    """``1 h 05 min``, ``12 min`` or ``40 s``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def parse_time(text: str) -> float:
    """Read ``2h``, ``90min``, ``1h30min`` or ``45s`` as seconds.

    Raises:
        ValueError: it is none of these.
    """
    found = re.fullmatch(
        r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)(?:m|min))?(?:(\d+(?:\.\d+)?)s)?", text.replace(" ", "")
    )
    if not found or not any(found.groups()):
        raise ValueError(f"--budget {text}: write a time like 2h, 90min or 1h30min")
    hours, minutes, seconds = (float(group or 0) for group in found.groups())
    return 3600 * hours + 60 * minutes + seconds


def time_student(cfg: DictConfig, teacher_size: int, batch: int = 8) -> tuple[float, float]:
    """Measure seconds per photo of a training step of the config's student, and of its forward pass at another size."""
    model = to_device(instantiate(cfg.model), cfg.train.device, cfg.train.channels_last)
    size = int(cfg.dataloader.train.mapper.sizes[0])
    step = _time(lambda inputs: _train(model, inputs), make_inputs(cfg, size, batch))
    model.eval()
    forward = torch.no_grad()(lambda inputs: model(inputs))
    return step, _time(forward, make_inputs(cfg, teacher_size, 2))


def time_teacher(cfg: DictConfig, batch: int = 2) -> tuple[float, float]:
    """Measure seconds per photo of a training step and of a forward pass of the config's T-WDet."""
    model = to_device(instantiate(cfg.model), cfg.train.device, cfg.train.channels_last)
    inputs = make_inputs(cfg, int(cfg.dataloader.train.mapper.sizes[0]), batch)
    step = _time(lambda x: _train(model, x), inputs)
    model.eval()
    compute = cast(WSDDN, model).compute_outputs
    return step, _time(torch.no_grad()(lambda x: compute(x)), inputs)


def make_inputs(cfg: DictConfig, size: int, batch: int) -> list[dict]:
    """Random images with labels and proposals, as the mapper makes them."""
    inputs = []
    for _ in range(batch):
        proposals = Instances((size, size))
        corners = torch.rand(cfg.proposals.num_proposals, 2, 2) * size
        proposals.proposal_boxes = Boxes(torch.cat([corners.amin(1), corners.amax(1) + 1], 1))
        proposals.scores = torch.rand(cfg.proposals.num_proposals)
        image, labels = torch.randint(256, (3, size, size), dtype=torch.uint8), torch.zeros(cfg.dataset.num_classes)
        labels[0] = 1
        geometry = Geometry.whole((size, size))
        inputs.append({"image": image, "labels": labels, "proposals": proposals, "geometry": geometry})
    return inputs


def _train(model: nn.Module, inputs: list[dict]) -> None:
    model.zero_grad()
    sum(model(inputs).values()).backward()


def _time(call: Callable[[list[dict]], object], inputs: list[dict]) -> float:
    clock = []
    for _ in range(STEPS + 1):
        started = time.perf_counter()
        call(inputs)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        clock.append(time.perf_counter() - started)
    return median(clock[1:]) / len(inputs)
