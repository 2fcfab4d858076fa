"""The runs of a dataset, by name and seed, as commands that need one another."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from detectron2.config import LazyConfig, instantiate
from omegaconf import DictConfig

from wsd_distill.data.datasets import register_from_config
from wsd_distill.engine import apply_overrides

from .recipes import RECIPES, Recipe
from .runs import Run


@dataclass(frozen=True)
class Detector:
    """Config and weights of the user's supervised detector."""

    config: str
    weights: str


class RunPlan:
    """All that can be run for one dataset. A run is made when it is asked for, so that only its configs are read.

    Args:
        root: folder with ``configs`` and ``tools``. dataset: a folder in ``configs``.
        output: folder of the runs; None: ``output/`` and the name of the dataset.
        opts: overrides of the user, each for all configs that have its key.
        detector: of Table 5; None: the dataset's ``faster_rcnn`` config is trained, once for all seeds.
    """

    def __init__(
        self,
        root: Path,
        dataset: str,
        output: Path | None = None,
        opts: Sequence[str] = (),
        detector: Detector | None = None,
    ):
        self.root, self.configs, self.opts, self._supervised = root, root / "configs" / dataset, opts, detector
        self._runs: dict[str, Run] = {}
        self._taken: set[str] = set()
        self._loaded: dict[tuple[str, bool], tuple[Path, DictConfig, list[str]]] = {}
        cfg = self._load("data")[1]
        self.name, self.train_set = cfg.dataset.get("name", dataset), cfg.dataset.train
        self.output = (output or Path("output") / self.name).resolve()

    def goals(self, names: Iterable[str], seeds: int) -> list[Run]:
        """The runs of these names, for each seed.

        Raises:
            FileNotFoundError: the dataset lacks a config. ValueError: an override that none of the configs can take.
        """
        names = list(dict.fromkeys(names))
        goals = [self.training(name, seed) for seed in range(seeds) for name in names]
        for opt in self.opts:
            if opt not in self._taken:
                raise ValueError(f"--opts {opt}: no config of these runs has such a key")
        return goals

    def training(self, name: str, seed: int) -> Run:
        path = f"seed{seed}/{name}"
        if path not in self._runs:
            self._runs[path] = self._train(RECIPES[name], path, seed)
        return self._runs[path]

    def proposals(self, method: str) -> Run:
        """The stores of all splits."""
        path = f"proposals_{method}"
        if path not in self._runs:
            self._runs[path] = self._propose(path, method)
        return self._runs[path]

    def _train(self, recipe: Recipe, path: str, seed: int) -> Run:
        file, cfg, opts = self._load(recipe.config, recipe.detector)
        needs, overrides = [], list(recipe.overrides)
        if recipe.boxes:
            method = "detector" if recipe.detector else cfg.proposals.method
            needs.append(self.proposals(method))
            overrides.append(f"proposals.method={method}")
        if recipe.teacher:
            needs.append(self.training(recipe.teacher, seed))
            overrides.append(_set("distiller.teacher_checkpoint", needs[-1].weights))
        if recipe.start:
            needs.append(self.training(recipe.start, seed))
            overrides.append(_set("train.init_checkpoint", needs[-1].weights))
        if recipe.from_imagenet:
            overrides.append(_set("train.init_checkpoint", self._load("student")[1].train.init_checkpoint))
        if recipe.stages:
            iterations = sum(self._load(stage)[1].train.max_iter for stage in recipe.stages)
            overrides.append(f"train.max_iter={iterations}")
        return self._train_net(path, file, seed, [*opts, *overrides], needs)

    def _train_net(self, path: str, file: Path, seed: int, overrides: list[str], needs: list[Run]) -> Run:
        output = self.output / path
        command = [*self._tool("train_net"), "--config-file", str(file), "--resume", *overrides]
        command += [f"train.seed={seed}", _set("train.output_dir", output)]
        return Run(path, command, output, [output / "results.json"], needs)

    def _propose(self, path: str, method: str) -> Run:
        file, cfg, opts = self._load("data", detector=method == "detector")
        register_from_config(cfg)
        cfg.proposals.method = method
        stores = [Path(instantiate(cfg.proposals[split])) for split in ("train", "val", "test")]
        command = [*self._tool("generate_proposals"), "--config-file", str(file), *opts]
        asked = self._supervised if method == "detector" else any(opt.startswith("image_proposals.") for opt in opts)
        run = Run(path, command, self.output / path, stores, check=bool(asked))
        if method == "detector" and (run.check or not run.done):
            detector = self._supervised or self._trained_detector(run.needs)
            run.command += ["--method", method, "--detector-config", detector.config, "--weights", detector.weights]
        elif (
            "image_proposals" not in cfg or instantiate(cfg.image_proposals.proposer).name != method
        ):  # else it has parameters
            run.command += ["--method", method]
        return run

    def _trained_detector(self, needs: list[Run]) -> Detector:
        """The dataset's own, added to ``needs``."""
        try:
            file, _, opts = self._load("faster_rcnn")
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{error}: give yours with --detector-config and --detector-weights") from error
        needs.append(self._train_net("detector", file, 0, opts, []))
        return Detector(str(file), str(needs[-1].weights))

    def _tool(self, name: str) -> list[str]:
        return [sys.executable, "-W", "ignore", str(self.root / "tools" / f"{name}.py")]

    def _load(self, kind: str, detector: bool = False) -> tuple[Path, DictConfig, list[str]]:
        """A config's file, itself with those of the user's overrides whose key it has, and these overrides."""
        if (kind, detector) not in self._loaded:
            self._loaded[kind, detector] = self._read(kind, detector)
        return self._loaded[kind, detector]

    def _read(self, kind: str, detector: bool) -> tuple[Path, DictConfig, list[str]]:
        file = config_file(self.configs, kind, detector)
        cfg, taken = LazyConfig.load(str(file)), []
        for opt in self.opts:
            key = opt.partition("=")[0]
            if detector and (key.startswith("proposals.") or key.endswith(".proposals")):
                continue  # they are of the other proposals
            try:
                apply_overrides(cfg, [opt])
            except KeyError:
                continue
            taken.append(opt)
        self._taken.update(taken)
        return file, cfg, taken


def config_file(folder: Path, kind: str, detector: bool = False) -> Path:
    """``<kind>.py``, or, as the paper's datasets have it, with the backbone and the proposals in its name.

    Raises:
        FileNotFoundError: neither is there.
    """
    names = [f"{kind}_vgg16_fasterrcnn.py"] if detector else []
    names += [f"{kind}.py", f"{kind}_vgg16.py", f"{kind}_vgg16_edgeboxes.py"]
    for name in names:
        if (folder / name).exists():
            return folder / name
    raise FileNotFoundError(f"{folder} has no config {' or '.join(names)}")


def _set(key: str, value: object) -> str:
    """An override with a text in quotes, for it may have signs that are not of a plain word."""
    return f'{key}="{value}"'
