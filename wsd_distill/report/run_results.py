"""Reads the folder of a run of tools/train_net.py."""

from __future__ import annotations

import ast
import json
import re
import shlex
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from omegaconf import DictConfig, OmegaConf

from wsd_distill.evaluation.scores import SCORES_FILE, Scores, read_scores
from wsd_distill.modeling.checkpoints.load import read_weights

VERSIONS = ("Python", "PyTorch", "torchvision", "detectron2", "numpy", "GPU")


@dataclass
class RunResults:
    """Results of a run, which may be unfinished: values missing in its folder are empty."""

    method: str  # label in the report
    folder: Path  # ``train.output_dir``

    @property
    def label(self) -> str:
        """The last two parts of the folder, for example ``seed0/teacher``."""
        return "/".join(self.folder.parts[-2:])

    @property
    def done(self) -> bool:
        return (self.folder / "results.json").exists()

    @cached_property
    def metrics(self) -> dict[str, float]:
        """Defined metrics of the test split; empty for a stage that does not train the classifier.

        Raises:
            ValueError: ``results.json`` is damaged.
        """
        if not self.done:
            return {}
        path = self.folder / "results.json"
        try:
            tasks = json.loads(path.read_text()).get("test", {})
            return {metric: value for task in tasks.values() for metric, value in task.items() if value is not None}
        except (ValueError, AttributeError) as error:
            raise ValueError(f"{path} is damaged ({error}): evaluate the run again, or train again") from error

    @cached_property
    def history(self) -> dict[int, dict[str, float]]:
        """Iteration -> scalars logged there, in order. After a resume the later entry counts."""
        history: dict[int, dict[str, float]] = {}
        for line in self._read("metrics.json").splitlines():
            try:
                entry = json.loads(line)
                iteration = entry.pop("iteration")
            except (ValueError, KeyError, TypeError, AttributeError):
                continue  # incomplete: the run was killed, or is writing this line
            history.setdefault(iteration, {}).update(entry)
        return dict(sorted(history.items()))

    def curve(self, name: str) -> tuple[list[int], list[float]]:
        """Iterations and values of a logged scalar."""
        points = {i: entry[name] for i, entry in self.history.items() if name in entry}
        return list(points), list(points.values())

    @cached_property
    def losses(self) -> list[str]:
        """Names of the losses; with several, ``total_loss`` comes first."""
        names = sorted({name for entry in self.history.values() for name in entry if name.startswith("loss_")})
        return ["total_loss", *names] if len(names) > 1 else names

    @cached_property
    def config(self) -> str:
        return self._read("config.yaml")

    @cached_property
    def settings(self) -> DictConfig:
        """``train`` of an existing config."""
        return OmegaConf.create(self.config).train

    @cached_property
    def duration(self) -> str:
        """Training time since the last start as ``h:mm:ss``; "" for an unfinished run."""
        found = re.findall(r"Total training time: (.*) \(", self._read("log.txt"))
        return found[-1] if found and self.done else ""  # Detectron2 logs it for an interrupted training too

    @cached_property
    def commands(self) -> list[str]:
        """Command line of each start, rebuilt from the arguments that Detectron2 logs."""
        found = re.findall(r"Command line arguments: (Namespace\(.*\))$", self._read("log.txt"), re.MULTILINE)
        return [_rebuild_command(arguments) for arguments in found]

    @cached_property
    def versions(self) -> dict[str, str]:
        """Versions of packages and the GPU, as logged by Detectron2 at the last start."""
        environment = self._read("log.txt").rpartition("Environment info:")[2].partition("Command line arguments:")[0]
        lines = re.findall(r"^(\S.*?) {2,}(\S.*?)(?: @| \(|:|$)", environment, re.MULTILINE)
        return {name: value for name, value in lines if name.split()[0] in VERSIONS and "debug" not in name}

    @cached_property
    def scores(self) -> Scores:
        """Scores and labels of the test split; without images and classes if there is no file."""
        path = self.folder / "inference" / "test" / SCORES_FILE
        return read_scores(path) if path.exists() else Scores(np.empty((0, 0)), np.empty((0, 0)), [])

    @cached_property
    def counts(self) -> np.ndarray:
        """(K,) number of test images with each class."""
        return (self.scores.labels == 1).sum(axis=0)

    @cached_property
    def temperatures(self) -> dict[str, np.ndarray]:
        """Learned temperatures by name, each (K,), (R,) or, if shared, (1,)."""
        path = self.folder / "model_final.pth"
        if not path.exists():
            return {}
        state = read_weights(path).get("trainer", {}).get("objectives", {})
        logs = {key.rpartition(".temperatures.log_"): value for key, value in state.items()}
        return {name: value.exp().reshape(-1).numpy() for (_, found, name), value in logs.items() if found}

    @property
    def missing(self) -> str:
        """A sentence about an unfinished run; "" for a finished one."""
        logged = f"last logged iteration {max(self.history)}" if self.history else "nothing logged yet"
        return "" if self.done else f"{self.method}, {self.label}: not finished, {logged}."

    def _read(self, name: str) -> str:
        path = self.folder / name
        return path.read_text(errors="replace") if path.exists() else ""


def _rebuild_command(namespace: str) -> str:
    keywords = [node for node in ast.walk(ast.parse(namespace)) if isinstance(node, ast.keyword)]
    arguments = {keyword.arg: ast.literal_eval(keyword.value) for keyword in keywords}
    words = ["python", "tools/train_net.py", "--config-file", arguments["config_file"]]
    words += [
        flag for flag in ("--resume", "--allow-changes", "--eval-only") if arguments.get(flag[2:].replace("-", "_"))
    ]
    words += ["--num-gpus", str(arguments["num_gpus"])] if arguments["num_gpus"] != 1 else []
    return shlex.join([*words, *arguments["opts"]])
