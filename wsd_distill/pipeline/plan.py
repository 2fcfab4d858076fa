"""The trainings of a dataset and their proposals as runs, and the settings of existing runs."""

from __future__ import annotations

import difflib
import re
import shlex
import sys
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

from detectron2.config import LazyConfig, instantiate
from omegaconf import DictConfig, OmegaConf

from wsd_distill.data.datasets import get_dataset_info, get_whole_dataset
from wsd_distill.engine import apply_overrides, load_config, method_first
from wsd_distill.engine.lazy_config import UnknownKeyError, suggest

from .experiments import TRAININGS, Training
from .scheduler import Run

# Overrides that are not for the runs with a detector's proposals.
_OTHER_PROPOSALS = re.compile(r"proposals\.(?!methods\.)|image_proposals\.|[^=]*\.proposals=")

# Overrides for trainings with a teacher only.
_UNLABELLED = ("dataset.unlabelled=", "dataset.files.unlabelled=", "dataset.split_names.unlabelled=")

# Overrides for trainings without T-WDet, whose proposals do not mix.
_MIX = "dataloader.train.mix"


class RunPlan:
    """Build the runs of a dataset; only the configs of requested runs are loaded.

    Args:
        root: repository folder with ``configs`` and ``tools``.
        dataset: ``dataset.name`` in the configs.
        recipe: folder in ``configs``; None: the default of the dataset.
        output: folder of the runs; None: ``output/<dataset>``.
        opts: overrides, each for all configs that have its key; those of unlabelled images only for distillations.
        detector: config and weights of a supervised detector; None: train ``faster_rcnn`` of the recipe, for all seeds.
    """

    def __init__(
        self,
        root: Path,
        dataset: str,
        recipe: str | None = None,
        output: Path | None = None,
        opts: Sequence[str] = (),
        detector: tuple[str, str] | None = None,
    ):
        self.root, self.dataset, self.opts, self.detector = root, dataset, opts, detector
        self.recipe = recipe or "efficientnet_lite0"  # of datasets of the user's own images, which are not registered
        with suppress(KeyError):
            self.recipe = recipe or get_dataset_info(dataset).recipe
        self._has_unlabelled = any(opt.startswith(_UNLABELLED) for opt in opts)
        self.output = (output or Path("output") / dataset).resolve()
        self._runs: dict[str, Run] = {}
        self._used_opts: set[str] = set()
        self._near: dict[str, set[str]] = {}  # override -> near keys of configs without its key
        self._configs: dict[tuple[str, bool], tuple[Path, DictConfig, list[str]]] = {}
        self.train_split = self.load("teacher")[1].dataset.train

    def targets(self, names: Collection[str], seeds: int) -> list[Run]:
        """Plan the named trainings for each seed; without those that the recipe leaves out.

        Raises:
            FileNotFoundError: the recipe lacks a config.
            ValueError: no config has the key of an override.
        """
        folder = self.root / "configs" / self.recipe
        needed = {name: TRAININGS[name].only_with for name in names}
        names = [name for name in names if not needed[name] or (folder / f"{needed[name]}.py").exists()]
        targets = [self.training(name, seed) for seed in range(seeds) for name in names]
        self.check_used(self.opts)
        return targets

    def check_used(self, opts: Sequence[str]) -> None:
        """Raise ValueError if no config that was loaded so far has the key of one of the overrides ``opts``."""
        for opt in opts:
            if opt not in self._used_opts:
                near = difflib.get_close_matches(opt.partition("=")[0], sorted(self._near.get(opt, ())), n=3)
                raise ValueError(f"{opt}: no config of these runs has this key{suggest(near)}")

    def training(self, name: str, seed: int) -> Run:
        """Plan a training of ``TRAININGS`` and its dependencies."""
        path, training = f"seed{seed}/{name}", TRAININGS[name]
        if path in self._runs:
            return self._runs[path]
        cfg, dependencies, overrides = self.load(training.config, training.detector)[1], [], [*training.overrides]
        if training.proposals:
            method = "detector" if training.detector else cfg.proposals.method
            dependencies.append(self.proposals(method))
            overrides += self._proposal_overrides(method)
            if self._has_unlabelled:  # the teacher, which trains without these images, reads the same store
                overrides.append(_quote("proposals.train", dependencies[0].results[0]))
        if training.teacher:
            names = [training.teacher] if isinstance(training.teacher, str) else training.teacher
            teachers = [self.training(name, seed) for name in names]
            dependencies += teachers
            files = [run.weights for run in teachers]
            overrides.append(_quote("distiller.teacher_checkpoint", files if len(files) > 1 else files[0]))
        if training.init_from:
            dependencies.append(self.training(training.init_from, seed))
            overrides.append(_quote("train.init_checkpoint", dependencies[-1].weights))
        if training.from_imagenet:
            overrides.append(_quote("train.init_checkpoint", self.load("student")[1].train.init_checkpoint))
        if training.length_of:
            key = "max_iter" if any(opt.startswith("train.max_iter=") for opt in self.opts) else "epochs"
            overrides.append(f"train.{key}={sum(self.load(name)[1].train[key] for name in training.length_of)}")
        overrides.append(f"train.seed={seed}")
        return self._add_training(path, training, overrides, dependencies)

    def proposals(self, method: str) -> Run:
        """Plan the proposal stores of all splits."""
        path, uses_detector = f"proposals_{method}", method == "detector"
        if path in self._runs:
            return self._runs[path]
        file, cfg, opts = self.load("stage2" if self._has_unlabelled else "teacher", uses_detector)
        cfg.proposals.method = method
        stores = [Path(instantiate(cfg.proposals[split])) for split in ("train", "val", "test")]
        prefixes = ("detector." if uses_detector else "image_proposals.", f"proposals.methods.{method}.generator.")
        check = bool(uses_detector and self.detector) or any(opt.startswith(prefixes) for opt in opts)
        run = self._runs[path] = Run(path, [], self.output / path, stores, check=check)
        if uses_detector and not self.detector and (check or not run.done):
            try:
                trained = self._add_training("detector", Training("faster_rcnn"), ["train.seed=0"], [])
            except FileNotFoundError as error:
                hint = "give your detector with --detector-config and --detector-weights"
                raise FileNotFoundError(f"{error}, or {hint}") from error
            run.dependencies.append(trained)
            self.detector = (str(trained.folder / "config.yaml"), str(trained.weights))
        run.command = self._command("generate_proposals", file, [*opts, *self._proposal_overrides(method)])
        return run

    def _proposal_overrides(self, method: str) -> list[str]:
        """Overrides for proposals of ``method``. Existing stores of a detector can be used without its files."""
        files = zip(("config", "weights"), self.detector or ()) if method == "detector" else ()
        return [f"proposals.method={method}", *(_quote(f"detector.{key}", file) for key, file in files)]

    def _add_training(self, path: str, training: Training, overrides: list[str], dependencies: list[Run]) -> Run:
        (file, _, opts), folder = self.load(training.config, training.detector), self.output / path
        command = self._command("train_net", file, ["--resume", *opts, *overrides])
        command += [_quote("train.root", self.output), _quote("train.output_dir", folder)]
        run = self._runs[path] = Run(path, command, folder, [folder / "results.json"], dependencies)
        return run

    def _command(self, tool: str, file: Path, arguments: list[str]) -> list[str]:
        return [sys.executable, str(self.root / "tools" / f"{tool}.py"), "--config-file", str(file), *arguments]

    def load(self, name: str, detector: bool = False) -> tuple[Path, DictConfig, list[str]]:
        """Load a config of the recipe; return its file, the config and those overrides whose key it has."""
        if (name, detector) not in self._configs:
            file = find_config(self.root, self.recipe, name)
            recipe, opts = LazyConfig.load(str(file)), [f"dataset.name={self.dataset}"]
            for opt in method_first(self.opts):
                unfit = "distiller" not in recipe and opt.startswith(_UNLABELLED)
                unfit |= name == "teacher" and opt.startswith(_MIX)
                if not unfit and not (detector and _OTHER_PROPOSALS.match(opt)):
                    try:
                        apply_overrides(recipe, [opt])
                        opts.append(opt)
                    except UnknownKeyError as error:
                        self._near.setdefault(opt, set()).update(error.near)
            self._used_opts.update(opts)
            self._configs[name, detector] = file, load_config(str(file), opts), opts
        return self._configs[name, detector]


def record_settings(plan: RunPlan, detector: Sequence[str] | None, *, write: bool) -> None:
    """Check that existing runs have the dataset and the recorded settings of ``plan``; with ``write`` record these.

    Args:
        detector: config and weights given for Table 5, empty if its detector is trained; None: Table 5 is not made.

    Raises:
        SystemExit: something differs.
    """
    for config in [*plan.output.glob("seed*/*/config.yaml"), *plan.output.glob("detector/config.yaml")]:
        dataset = OmegaConf.load(config).dataset
        train_split = get_whole_dataset(dataset.train, dataset.get("leave_out"))
        train_split = train_split.removesuffix(f"_with_{dataset.get('unlabelled')}")
        if train_split != plan.train_split:
            raise SystemExit(f"{config.parent} was trained on {train_split}, not {plan.train_split}: change --output")
    settings = {"recipe": ([plan.recipe], "--recipe"), "opts": (list(plan.opts), "--opts")}
    if detector is not None:
        settings["detector"] = list(detector), "--detector-config"
    for name, (words, option) in settings.items():
        file = plan.output / f"{name}.txt"
        before = file.read_text().splitlines() if file.exists() else words
        if before != words and any(plan.output.glob("seed*")):
            made_with = f"{plan.output} were made with {shlex.join(before) or f'no {option}'}"
            raise SystemExit(f"the runs in {made_with}: give the same, or another --output")
    if write:
        plan.output.mkdir(parents=True, exist_ok=True)
        for name, (words, _) in settings.items():
            (plan.output / f"{name}.txt").write_text("\n".join(words))


def _quote(key: str, value: object) -> str:
    """An override whose value, or each of its items, is quoted, because it may contain special characters."""
    if isinstance(value, list):
        items = ",".join(f'"{item}"' for item in value)
        return f"{key}=[{items}]"
    return f'{key}="{value}"'


def find_config(root: Path, recipe: str, name: str) -> Path:
    """Return the file of a config; FileNotFoundError, with the recipes that have it, if it does not exist."""
    file = root / "configs" / recipe / f"{name}.py"
    if not file.exists():
        recipes = sorted(path.parent.name for path in (root / "configs").glob(f"*/{name}.py"))
        raise FileNotFoundError(f"{file} does not exist: choose another --recipe: {', '.join(recipes)}")
    return file
