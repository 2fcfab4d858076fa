"""The work of ``wsd train``: from tagged photos to a model folder and a report. A second start goes on.

The output folder has ``lists`` (the photos of each split), ``plan.json``, ``runs`` (one folder per training of
``tools/train_net.py``), ``report.html`` and ``model``; ``wsd train`` locks ``.lock`` in it.
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from detectron2.config import instantiate
from detectron2.data import DatasetCatalog
from omegaconf import DictConfig

from wsd_distill.data.datasets import SPLITS
from wsd_distill.data.image import read_rgb
from wsd_distill.engine.run_folder import changes_results
from wsd_distill.evaluation.bootstrap import compare, draw_weights
from wsd_distill.evaluation.chance import compare_with_chance
from wsd_distill.evaluation.decisions import (
    Thresholds,
    calibrate,
    choose_thresholds,
    class_gains,
    class_intervals,
    fit_calibration,
    metric_intervals,
)
from wsd_distill.evaluation.scores import Scores
from wsd_distill.io import atomic_write
from wsd_distill.tagging.from_run import read_run, read_samples
from wsd_distill.tagging.save import save_model_folder
from wsd_distill.tags import TagTable

from .budget import CANDIDATES, Candidate, Costs, Plan, Work, choose_plan, time_student, time_teacher
from .candidate_runs import Outcome, Skipped, TrainedCandidates, read_split, train_candidates
from .experiments import FOLDS
from .plan import RunPlan
from .scheduler import run_missing
from .sources import find_root

PLAIN = CANDIDATES[0].training
PLANNED = ("student_size", "teacher_size", "student_epochs")  # keys of train that a plan sets
LISTS = (*SPLITS, "unlabelled")
_DRAWS = 1000


@dataclass(frozen=True)
class Decisions:
    """Calibration and thresholds of a student, chosen on val, and what they give on test.

    Attributes:
        scale, offset: calibration, p = sigmoid(scale * logit + offset).
        thresholds: of calibrated scores.
        test: calibrated scores on test.
    """

    scale: float
    offset: float
    thresholds: Thresholds
    test: Scores

    @property
    def predicted(self) -> np.ndarray:
        """(N, K) bool: the labels that the test photos get."""
        return self.test.scores >= self.thresholds.values


@dataclass
class Result:
    """The tagger that is kept, with its decisions and what they give on test.

    Attributes:
        outcomes: of all candidates, the cheapest first.
        best: the one with the best mAP on val.
        skipped: candidates of the plan that were left out.
        teacher_seconds: that the teacher took; None if it was not trained.
        kept: decisions of the best.
        plain: those of plain fine-tuning, to compare with; None if it is the best.
        metrics: mAP, CF1, OF1 on test -> value and interval, in percent.
        classes: AP of each class on test with its interval, in percent.
        gains: in AP over plain fine-tuning, of each class on test with a paired interval, in points; empty if plain
            fine-tuning is the best.
    """

    outcomes: list[Outcome]
    best: Outcome
    skipped: list[Skipped]
    teacher_seconds: float | None
    kept: Decisions
    plain: Decisions | None
    metrics: dict[str, tuple[float, float, float]]
    classes: list[tuple[float, float, float]]
    gains: list[tuple[float, float, float]]

    def summary(self) -> str:
        """What was kept and why, in sentences."""
        value, low, high = self.metrics["mAP"]
        text = f"kept: {self.best.candidate.title}, mAP {value:.1f} on test (95 % interval {low:.1f} to {high:.1f})"
        if self.best.gain is None and len(self.outcomes) > 1:
            return f"{text}; plain fine-tuning is best on val: no distilled student that was trained is better"
        if self.best.gain is not None:
            gain, low, high = self.best.gain
            text += f"; {gain:+.1f} mAP over plain fine-tuning on val ({low:+.1f} to {high:+.1f})"
            text += "" if low > 0 else ", which chance can explain"
        return text


def write_lists(tags: TagTable, images: Path, folder: Path, unlabelled: Sequence[str] = ()) -> dict[str, Path]:
    """Write the list of photos of each split and of the ``unlabelled`` ones (absolute paths), and the classes.

    Raises:
        ValueError: a split has no photo, or the lists in ``folder`` are of other tags.
    """
    files = {name: folder / f"{name}.parquet" for name in LISTS}
    texts = {folder / "classes.txt": "\n".join(tags.classes) + "\n", folder / "images.txt": f"{images}\n"}
    tables = {files[split]: _list_photos(tags, split) for split in SPLITS}
    tables[files["unlabelled"]] = pa.table({"file": pa.array(unlabelled, pa.string())})
    folder.mkdir(parents=True, exist_ok=True)
    for path in (*texts, *tables):
        if not path.exists():
            with atomic_write(path) as part:
                if path in texts:
                    part.write_text(texts[path], encoding="utf-8")
                else:
                    pq.write_table(tables[path], part)
        is_same = path.read_text("utf-8") == texts[path] if path in texts else pq.read_table(path).equals(tables[path])
        if not is_same:
            options = "TAGS, --images, --classes, --separator, --seed, --unlabelled and --decisions"
            raise ValueError(
                f"{path} is of other tags or photos: give the {options} of the first start again, or another --out"
            )
    return files


def _list_photos(tags: TagTable, split: str) -> pa.Table:
    """Return the photos of a split with the names of their labels: columns ``file``, ``labels`` and ``unknown``."""
    table = tags.table.filter(pc.equal(tags.table["split"], split))
    if not len(table):
        raise ValueError(f"no photo is in the split {split!r}: give at least 10 photos, or a column 'split'")
    names = pa.array(tags.classes, pa.string())
    columns = {"file": table["file"]}
    for name, column in (("labels", "positive"), ("unknown", "unknown")):
        lists = table[column].combine_chunks()
        offsets = pa.array(np.cumsum([0, *pc.list_value_length(lists).to_numpy()]), pa.int32())
        columns[name] = pa.ListArray.from_arrays(offsets, names.take(pc.list_flatten(lists)))
    return pa.table(columns)


class TaggerTraining:
    """Trains the students of a plan in one output folder, and keeps the best.

    Args:
        name: of the dataset in configs and logs.
        out: output folder.
        lists: split -> file of ``write_lists``.
        images: folder of the photos.
        recipe: folder in ``configs``.
        opts: overrides of the user.
    """

    def __init__(
        self, name: str, out: Path, lists: dict[str, Path], images: Path, recipe: str, opts: Sequence[str] = ()
    ):
        self.name, self.out, self.images, self.recipe, self.overrides = name, out, images, recipe, list(opts)
        files = [f'dataset.files.{split}="{lists[split]}"' for split in SPLITS]
        classes = f'dataset.classes="{lists["train"].with_name("classes.txt")}"'
        stores = [f'proposals.{split}="{out / "proposals" / split}.arrow"' for split in SPLITS]
        self.counts = {name: pq.read_metadata(path).num_rows for name, path in lists.items()}
        self.unlabelled = [f'dataset.files.unlabelled="{lists["unlabelled"]}"'] if self.counts["unlabelled"] else []
        outside = f"dataset.allow_outside={bool(self.unlabelled)}"  # unlabelled photos may be in another folder
        self.opts = [f'dataset.image_root="{images}"', outside, classes, *files, *stores, *opts]

    @classmethod
    def load(cls, out: Path) -> tuple[TaggerTraining, Plan]:
        """Return the training of an output folder, and its plan.

        Raises:
            FileNotFoundError: ``wsd train`` has not made a plan there.
            ValueError: an earlier version has.
        """
        path, lists = out / "plan.json", {name: out / "lists" / f"{name}.parquet" for name in LISTS}
        for file in (path, *lists.values()):
            if not file.exists():
                raise FileNotFoundError(f"{out} has no {file.relative_to(out)}: give the --out folder of wsd train")
        saved = json.loads(path.read_text())
        if "recipe" not in saved:
            raise ValueError(f"{path} has no 'recipe': it is of an earlier version; train in another --out folder")
        images = Path((out / "lists" / "images.txt").read_text(encoding="utf-8").removesuffix("\n"))
        return cls(out.name, out, lists, images, saved["recipe"], saved["overrides"]), _read_plan(saved)

    def make_plan(self, budget: float | None) -> Plan:
        """Measure and choose; a second start reads what the first one has chosen.

        Raises:
            ValueError: the budget is too short, an override has an unknown key or a wrong value, or the budget, the
                recipe or the overrides that change results are others than at the first start.
        """
        path, settings = self.out / "plan.json", {"budget": budget, "recipe": self.recipe, "overrides": self.overrides}
        saved = json.loads(path.read_text()) if path.exists() else None
        if saved is not None:
            if saved["budget"] != budget:
                raise ValueError(f"{path} is of another --budget: give the same, or another --out")
            self._check_same_settings(path, saved)
        runs = self._run_plan()
        default = self._default(runs, budget)
        runs.targets([candidate.training for candidate in CANDIDATES], seeds=1)  # checks the overrides
        if saved is not None:
            return _read_plan(saved)
        plan = choose_plan(budget, self._work(runs), self._measure, CANDIDATES, default)
        with atomic_write(path) as part:
            part.write_text(json.dumps({**asdict(plan), **settings}, indent=1))
        return plan

    def _check_same_settings(self, path: Path, saved: dict[str, Any]) -> None:
        if saved.get("recipe", self.recipe) != self.recipe:
            raise ValueError(f"{path} is of --recipe {saved['recipe']}: give the same, or another --out")
        before, now = (
            [opt for opt in opts if changes_results(opt.partition("=")[0])]
            for opts in (saved.get("overrides", self.overrides), self.overrides)
        )
        if before != now:
            given = f"--set {shlex.join(before)}" if before else "no --set"
            raise ValueError(f"{path} is of {given}: give the same, or another --out")

    def train(self, plan: Plan, budget: float | None, say: Callable[[str], None]) -> Result:
        """Train the candidates as :func:`train_candidates`, and decide.

        The teacher is checked here, once, on all validation images, so that the trainings of its students only warn.

        Raises:
            RuntimeError: plain fine-tuning failed; names its log.
        """
        opts = [f"train.student_size={plan.size}", f"train.teacher_size={plan.teacher_size}"]
        opts += [f"train.student_epochs={plan.epochs}"]
        kinds = {candidate.teacher for candidate in plan.candidates}
        opts += self.unlabelled if kinds != {""} else []
        opts += ["trainer.teacher_check.warn_only=True"] if "detector" in kinds else []
        runs = self._run_plan(*opts)
        targets = [runs.training(candidate.training, seed=0) for candidate in plan.candidates]
        return decide(train_candidates(plan, targets, budget, say, self._check_teacher))

    def _check_teacher(self, folder: Path) -> str:
        """Return why students cannot learn from the teacher, or ""; ``warn_only`` in the user's overrides allows it."""
        val = read_split(folder, "val")
        found = compare_with_chance(val.scores, val.labels)
        check = self._run_plan().load("soft_labels")[1].trainer.teacher_check
        if not found.is_weak or check is None or check.warn_only:
            return ""
        return (
            f"the teacher is no better than random scores: mAP {found.mean_ap:.1f} on {len(val.labels)} validation "
            f"photos, where random ones have {found.chance:.1f} and reach {found.threshold:.1f}. Train longer, or with "
            "more photos; --set trainer.teacher_check.warn_only=True uses the teacher all the same"
        )

    def train_folds(self, plan: Plan, opts: Sequence[str] = ()) -> list[Path]:
        """Train T-WDet once without each fold of the training photos; return the folders. Complete ones are kept.

        Args:
            plan: of this training.
            opts: further overrides for these teachers.

        Raises:
            RuntimeError: a training failed; names its log.
            ValueError: the teachers have no key of one of ``opts``.
        """
        runs = self._run_plan(f"train.teacher_size={plan.teacher_size}", *self.overrides, *opts)
        targets = [runs.training(name, seed=0) for name in FOLDS]
        runs.check_used(opts)
        failed, _ = run_missing(targets, jobs=max(1, torch.cuda.device_count()), quiet=True)
        if failed:
            raise RuntimeError(f"{failed[0].describe_failure()} (log: {failed[0].log}; start again to go on)")
        return [run.folder for run in targets]

    def save_model(self, result: Result) -> Path:
        """Write the model folder of the student that was kept; return it."""
        cfg, model, config = read_run(result.best.folder)
        metrics = {name: value for name, (value, _, _) in result.metrics.items()}
        intervals = {f"{name}_interval": [low, high] for name, (_, low, high) in result.metrics.items()}
        config = replace(
            config,
            thresholds=result.kept.thresholds.values.tolist(),
            calibration={"scale": result.kept.scale, "offset": result.kept.offset},
            metrics={"test": {**metrics, **intervals}},
        )
        samples = read_samples(cfg.dataset.val, config)
        save_model_folder(model, config, self.out / "model", samples=samples, replace=True)
        return self.out / "model"

    def _run_plan(self, *opts: str) -> RunPlan:
        return RunPlan(find_root(), self.name, self.recipe, self.out / "runs", [*self.opts, *opts])

    def _work(self, runs: RunPlan) -> Work:
        teacher, stage1 = (float(runs.load(name)[1].train.epochs) for name in ("teacher", "stage1"))
        others = self.counts["val"] + self.counts["test"]
        return Work(self.counts["train"], others, teacher, stage1, self.counts["unlabelled"])

    def _default(self, runs: RunPlan, budget: float | None) -> tuple[int, int, int]:
        """Sizes and epochs of the recipe with the user's overrides, which a budget chooses instead."""
        train = runs.load("student")[1].train
        missing = [key for key in PLANNED if key not in train]
        if missing:
            text = f"--recipe {self.recipe} has no train.{missing[0]}"
            raise ValueError(f"{text}, which wsd train sets: use efficientnet_lite0, or tools/train_net.py")
        chosen = [opt for opt in self.opts if opt.startswith(tuple(f"train.{key}=" for key in (*PLANNED, "epochs")))]
        if budget is not None and chosen:
            raise ValueError(f"--set {chosen[0]}: --budget chooses this; leave one of them out")
        return train.student_size, train.teacher_size, train.epochs

    def _measure(self, size: int, teacher_size: int) -> Costs:
        runs = self._run_plan(f"train.student_size={size}", f"train.teacher_size={teacher_size}")
        student, teacher = (runs.load(config)[1] for config in ("student", "teacher"))
        step, trunk = time_student(student, teacher_size)
        teacher_step, teacher_pass = time_teacher(teacher)
        return Costs(_time_reading(student), step, trunk, teacher_step, teacher_pass, _time_proposals(teacher))


def _read_plan(saved: dict[str, Any]) -> Plan:
    values = {item.name: saved[item.name] for item in fields(Plan)}
    return Plan(**{**values, "candidates": tuple(Candidate(**candidate) for candidate in values["candidates"])})


def decide(found: TrainedCandidates) -> Result:
    """Choose the best candidate on val, its calibration and its thresholds; then read test, once.

    Test is read for plain fine-tuning too, to show what distillation changed; nothing is chosen by it. Plain
    fine-tuning wins ties. The interval of a gain is that of a paired bootstrap over the validation images.
    """
    outcomes, plain = found.outcomes, found.outcomes[0]
    weights = draw_weights(len(plain.val.scores), _DRAWS, seed=0)
    for outcome in outcomes[1:]:
        difference = compare([plain.val], [outcome.val], "mAP", weights)
        outcome.gain = (difference.differences[0], *difference.interval)
    best = max(outcomes, key=lambda outcome: outcome.val_map)
    kept, base = _choose_decisions(best), None if best is plain else _choose_decisions(plain)
    metrics = metric_intervals(kept.test, kept.thresholds.values, _DRAWS)
    gains = class_gains(base.test, kept.test) if base else []
    seconds, classes = found.teacher_seconds, class_intervals(kept.test)
    return Result(outcomes, best, found.skipped, seconds, kept, base, metrics, classes, gains)


def _choose_decisions(outcome: Outcome) -> Decisions:
    val, test = outcome.val, read_split(outcome.folder, "test")
    scale, offset = fit_calibration(val.scores, val.labels)
    thresholds = choose_thresholds(calibrate(val.scores, scale, offset), val.labels)
    return Decisions(scale, offset, thresholds, test._replace(scores=calibrate(test.scores, scale, offset)))


def _time_reading(cfg: DictConfig, photos: int = 16) -> float:
    """Measure seconds per training photo to read, crop and resize it, over the loader's workers."""
    mapper = instantiate(cfg.dataloader.train.mapper)
    records: list[Any] = DatasetCatalog.get(cfg.dataset.train)[:photos]
    started = time.perf_counter()
    for record in records:
        mapper(record)
    return (time.perf_counter() - started) / len(records) / max(1, cfg.dataloader.train.num_workers)


def _time_proposals(cfg: DictConfig, photos: int = 3) -> float:
    """Measure seconds per photo of the generator of proposals."""
    generator = instantiate(cfg.image_proposals).proposer
    generator.prepare()
    images = [read_rgb(record["file_name"]) for record in DatasetCatalog.get(cfg.dataset.train)[:photos]]
    started = time.perf_counter()
    for image in images:
        generator(image)
    return (time.perf_counter() - started) / len(images)
