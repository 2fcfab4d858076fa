"""The trainings of a dataset and their proposals as runs."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from detectron2.config import LazyConfig, instantiate
from omegaconf import DictConfig, OmegaConf

from wsd_distill.data.datasets import get_dataset_info
from wsd_distill.engine import apply_overrides, load_config

from .experiments import TRAININGS
from .scheduler import Run

# Overrides that are not for the runs with a detector's proposals.
_OTHER_PROPOSALS = re.compile(r"proposals\.(?!methods\.)|image_proposals\.|.*\.proposals$")


class RunPlan:
    """Build the runs of a dataset; only the configs of requested runs are loaded.

    Args:
        root: repository folder with ``configs`` and ``tools``.
        dataset: ``dataset.name`` in the configs.
        recipe: folder in ``configs``; None: the default of the dataset.
        output: folder of the runs; None: ``output/<dataset>``.
        opts: overrides, each for all configs that have its key.
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
        self.recipe = recipe or default_recipe(dataset)
        self.output = (output or Path("output") / dataset).resolve()
        self._runs: dict[str, Run] = {}
        self._used_opts: set[str] = set()
        self._configs: dict[tuple[str, bool], tuple[Path, DictConfig, list[str]]] = {}
        self.train_split = self._load("teacher")[1].dataset.train

    def targets(self, names: Collection[str], seeds: int) -> list[Run]:
        """Plan the named trainings for each seed.

        Raises:
            FileNotFoundError: the recipe lacks a config.
            ValueError: no config has the key of an override.
        """
        targets = [self.training(name, seed) for seed in range(seeds) for name in names]
        unused = [opt for opt in self.opts if opt not in self._used_opts]
        if unused:
            raise ValueError(f"--opts {unused[0]}: no config of these runs has this key")
        return targets

    def training(self, name: str, seed: int) -> Run:
        """Plan a training of ``TRAININGS`` and its dependencies."""
        path, training = f"seed{seed}/{name}", TRAININGS[name]
        if path in self._runs:
            return self._runs[path]
        cfg, dependencies, overrides = self._load(training.config, training.detector)[1], [], [*training.overrides]
        if training.proposals:
            method = "detector" if training.detector else cfg.proposals.method
            dependencies.append(self.proposals(method))
            overrides += self._proposal_overrides(method)
        if training.teacher:
            dependencies.append(self.training(training.teacher, seed))
            overrides.append(_quote("distiller.teacher_checkpoint", dependencies[-1].weights))
        if training.init_from:
            dependencies.append(self.training(training.init_from, seed))
            overrides.append(_quote("train.init_checkpoint", dependencies[-1].weights))
        if training.from_imagenet:
            overrides.append(_quote("train.init_checkpoint", self._load("student")[1].train.init_checkpoint))
        if training.length_of:
            key = "max_iter" if any(opt.startswith("train.max_iter=") for opt in self.opts) else "epochs"
            overrides.append(f"train.{key}={sum(self._load(name)[1].train[key] for name in training.length_of)}")
        overrides.append(f"train.seed={seed}")
        return self._add_training(path, training.config, overrides, dependencies, training.detector)

    def proposals(self, method: str) -> Run:
        """Plan the proposal stores of all splits."""
        path, uses_detector = f"proposals_{method}", method == "detector"
        if path in self._runs:
            return self._runs[path]
        file, cfg, opts = self._load("teacher", uses_detector)
        cfg.proposals.method = method
        stores = [Path(instantiate(cfg.proposals[split])) for split in ("train", "val", "test")]
        prefixes = ("detector." if uses_detector else "image_proposals.", f"proposals.methods.{method}.generator.")
        check = bool(uses_detector and self.detector) or any(opt.startswith(prefixes) for opt in opts)
        run = self._runs[path] = Run(path, [], self.output / path, stores, check=check)
        if uses_detector and not self.detector and (check or not run.done):
            try:
                trained = self._add_training("detector", "faster_rcnn", ["train.seed=0"], [])
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

    def _add_training(
        self, path: str, config: str, overrides: list[str], dependencies: list[Run], detector: bool = False
    ) -> Run:
        (file, _, opts), folder = self._load(config, detector), self.output / path
        arguments = ["--resume", *opts, *overrides, _quote("train.output_dir", folder)]
        command = self._command("train_net", file, arguments)
        run = self._runs[path] = Run(path, command, folder, [folder / "results.json"], dependencies)
        return run

    def _command(self, tool: str, file: Path, arguments: list[str]) -> list[str]:
        script = str(self.root / "tools" / f"{tool}.py")
        return [sys.executable, script, "--config-file", str(file), *arguments]

    def _load(self, name: str, detector: bool = False) -> tuple[Path, DictConfig, list[str]]:
        """Load a config of the recipe; return its file, the config and the overrides applied to it."""
        if (name, detector) not in self._configs:
            file = self.root / "configs" / self.recipe / f"{name}.py"
            if not file.exists():
                raise FileNotFoundError(f"{file} does not exist: choose another --recipe")
            opts = [f"dataset.name={self.dataset}", *self._select_opts(file, detector)]
            self._configs[name, detector] = file, load_config(str(file), opts), opts
        return self._configs[name, detector]

    def _select_opts(self, file: Path, detector: bool) -> list[str]:
        """The overrides whose key the config has; with ``detector`` without those about other proposals."""
        cfg, selected = LazyConfig.load(str(file)), []
        for opt in self.opts:
            key = opt.partition("=")[0]
            if detector and _OTHER_PROPOSALS.match(key):
                continue
            try:
                apply_overrides(cfg, [opt])
            except KeyError:
                continue
            selected.append(opt)
        self._used_opts.update(selected)
        return selected


def default_recipe(dataset: str) -> str:
    """The recipe registered for a dataset. Unknown names are datasets of the user's own images."""
    try:
        return get_dataset_info(dataset).recipe
    except KeyError:
        return "efficientnet_lite0"


def record_settings(plan: RunPlan, detector: Sequence[str] | None, *, write: bool) -> None:
    """Check that existing runs have the dataset and settings of ``plan``; record the settings in the output folder.

    Args:
        detector: config and weights given for Table 5, empty if its detector is trained; None: Table 5 is not made.
        write: whether to record; otherwise only check. Settings that were not recorded are not checked.

    Raises:
        SystemExit: something differs.
    """
    for config in [*plan.output.glob("seed*/*/config.yaml"), *plan.output.glob("detector/config.yaml")]:
        train_split = OmegaConf.load(config).dataset.train
        if train_split != plan.train_split:
            raise SystemExit(f"{config.parent} was trained on {train_split}, not {plan.train_split}: change --output")
    settings = {"--recipe": [plan.recipe], "--opts": plan.opts, "--detector-config": detector}
    contents = {option: list(words) for option, words in settings.items() if words is not None}
    files = {option: plan.output / f"{option[2:].partition('-')[0]}.txt" for option in contents}
    for option, file in files.items():
        before = file.read_text().splitlines() if file.exists() else contents[option]
        if before != contents[option] and any(plan.output.glob("seed*")):
            made_with = shlex.join(before) or f"no {option}"
            raise SystemExit(
                f"the runs in {plan.output} were made with {made_with}: give the same, or another --output"
            )
    for option, file in files.items() if write else ():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(contents[option]))


def _quote(key: str, value: object) -> str:
    """An override whose value is quoted, because it may contain special characters."""
    return f'{key}="{value}"'
