"""The trainings of the candidates of a plan, the cheapest first, within a budget.

Each run keeps the seconds that it took in a file of its folder, also when it fails or is interrupted.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wsd_distill.evaluation.metrics import average_precisions
from wsd_distill.evaluation.scores import SCORES_FILE, Scores, read_scores
from wsd_distill.io import atomic_write

from .budget import TEACHER, Candidate, Plan, describe_time
from .scheduler import Run, run_missing

CLOCK = "seconds.txt"  # in the folder of a run
_TICK = 20.0  # seconds that a kill -9 may leave uncounted


@dataclass
class Outcome:
    """A trained candidate.

    Attributes:
        candidate: what was trained.
        folder: of its training.
        val: its scores on the validation images.
        seconds: that it took, without the teacher.
        gain: mAP on val over plain fine-tuning with the 95 % interval of a paired bootstrap, in points; None for plain.
    """

    candidate: Candidate
    folder: Path
    val: Scores
    seconds: float
    gain: tuple[float, float, float] | None = None

    @property
    def val_map(self) -> float:
        return 100 * float(np.nanmean(average_precisions(self.val.scores, self.val.labels)))


@dataclass(frozen=True)
class Skipped:
    """A candidate of the plan that was left out, why, and the seconds that it took, without the teacher."""

    candidate: Candidate
    reason: str
    seconds: float = 0.0


@dataclass(frozen=True)
class TrainedCandidates:
    """Results of :func:`train_candidates`; ``teacher_seconds`` is None if no teacher was trained."""

    outcomes: list[Outcome]
    skipped: list[Skipped]
    teacher_seconds: float | None


def train_candidates(
    plan: Plan,
    targets: Sequence[Run],
    budget: float | None,
    say: Callable[[str], None],
    check_teacher: Callable[[Path], str],
) -> TrainedCandidates:
    """Train the candidates of a plan.

    A candidate is left out when its estimate does not fit into what is left of the budget, or when its training or
    the teacher's fails. Each run is tried once. Plain fine-tuning, the first, is never left out.

    Args:
        plan: with the candidates, the cheapest first.
        targets: their trainings.
        budget: seconds, with those before an interruption and of failed runs; None: no limit.
        say: called with a line for the user.
        check_teacher: folder of the trained teacher -> why students cannot learn from it, or "".

    Raises:
        RuntimeError: plain fine-tuning failed; names its log.
    """
    outcomes: list[Outcome] = []
    skipped: list[Skipped] = []
    parts = [list_parts(candidate, target) for candidate, target in zip(plan.candidates, targets)]
    runs = {run.folder: run for part in parts for run in part.values()}
    reasons: dict[Path, str] = {}  # folder of a run that was tried -> why it failed, or ""
    for candidate, part in zip(plan.candidates, parts):
        target = part[candidate.title]
        used = sum(read_seconds(folder) for folder in runs)
        reason = _describe_lack_of_time(plan, part, used, budget) if outcomes and budget is not None else ""
        for name, run in part.items():
            if reason:
                break
            if run.folder not in reasons:
                reasons[run.folder] = _train(run)
                if name == TEACHER:
                    reasons[run.folder] = _check_teacher(run, reasons[run.folder], check_teacher, say)
            reason = reasons[run.folder]
        if reason and not outcomes:
            raise RuntimeError(f"{reason}: start again with --resume to go on")
        seconds = read_seconds(target.folder)
        if reason:
            is_known = any(reason == other.reason for other in skipped)
            skipped.append(Skipped(candidate, reason, seconds))
            say(f"left out{', for the same reason' * is_known}: {candidate.title}{'' if is_known else f': {reason}'}")
        else:
            outcomes.append(Outcome(candidate, target.folder, read_split(target.folder, "val"), seconds))
            say(f"{candidate.title}: mAP {outcomes[-1].val_map:.1f} on val, {describe_time(seconds)}")
    teachers = [read_seconds(part[TEACHER].folder) for part in parts if TEACHER in part]
    return TrainedCandidates(outcomes, skipped, teachers[0] if teachers and teachers[0] else None)


def list_parts(candidate: Candidate, target: Run) -> dict[str, Run]:
    """Return part of ``Plan.seconds`` -> run, in the order of work: the teacher if it is trained, and the candidate."""
    teachers = [run for run in target.dependencies if run.name.endswith("/teacher")]
    return {**({TEACHER: teachers[0]} if candidate.teacher == "detector" else {}), candidate.title: target}


def _describe_lack_of_time(plan: Plan, parts: dict[str, Run], used: float, budget: float) -> str:
    """Return why the parts that are missing do not fit into the budget, or "" if they do."""
    missing = {name: run for name, run in parts.items() if not run.done}
    left = sum(max(0.0, plan.seconds[name] - read_seconds(run.folder)) for name, run in missing.items())
    if not missing or used + left <= budget:
        return ""
    text = f"{describe_time(used)} of {describe_time(budget)} were used, and it takes about {describe_time(left)}"
    return f"no time is left: {text}{', with its teacher' * (TEACHER in missing)}"


def _train(run: Run) -> str:
    """Train what is missing of a run; return why it failed, or ""."""
    if run.done:
        return ""
    with count_seconds(run.folder):
        failed, _ = run_missing([run], jobs=1, quiet=True)
    return f"{failed[0].describe_failure()} (log: {failed[0].log})" if failed else ""


def _check_teacher(run: Run, reason: str, check: Callable[[Path], str], say: Callable[[str], None]) -> str:
    if reason:
        return f"the training of the teacher failed: {reason}"
    say(f"teacher: trained, {describe_time(read_seconds(run.folder))}")
    return check(run.folder)


@contextmanager
def count_seconds(folder: Path) -> Iterator[None]:
    """Add the seconds of the block to those of a run, also if the block raises or the process is killed."""
    before, started, ended = read_seconds(folder), time.monotonic(), threading.Event()
    folder.mkdir(parents=True, exist_ok=True)

    def write() -> None:
        with atomic_write(folder / CLOCK) as tmp_path:
            tmp_path.write_text(f"{before + time.monotonic() - started:.1f}")

    def write_regularly() -> None:
        while not ended.wait(_TICK):
            write()

    thread = threading.Thread(target=write_regularly, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        write()


def read_seconds(folder: Path) -> float:
    """Return the seconds that a run has taken in all its starts.

    Raises:
        ValueError: the file has no number of seconds; names it.
    """
    path = folder / CLOCK
    try:
        return float(path.read_text()) if path.exists() else 0.0
    except ValueError as error:
        raise ValueError(
            f"{path} is damaged ({error}): write the seconds that this run has taken, or delete it"
        ) from error


def read_split(folder: Path, split: str) -> Scores:
    """Read the scores that a run has written for a split."""
    return read_scores(folder / "inference" / split / SCORES_FILE)
