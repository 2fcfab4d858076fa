"""What tools/train_net.py leaves in the folder of a run, read back for a report."""

from __future__ import annotations

import ast
import json
import re
import shlex
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf

TEMPERATURES = ("t_cls", "t_det", "t_student")
VERSIONS = ("Python", "PyTorch", "torchvision", "detectron2", "numpy", "GPU")


@dataclass
class Run:
    """One training of a method; what its folder does not hold is empty or None, since the run may be unfinished.

    Attributes:
        method: as the report calls it. folder: ``train.output_dir`` of the run.
    """

    method: str
    folder: Path

    @property
    def place(self) -> str:
        """The last two parts of the folder, as in ``seed0/teacher``."""
        return "/".join(self.folder.parts[-2:])

    @property
    def done(self) -> bool:
        return (self.folder / "results.json").exists()

    @cached_property
    def results(self) -> dict[str, float]:
        """Metrics on the test split, without undefined ones; a stage whose classifier has not been trained has none."""
        if not self.done:
            return {}
        tasks = json.loads((self.folder / "results.json").read_text()).get("test", {})
        return {metric: value for task in tasks.values() for metric, value in task.items() if value is not None}

    @cached_property
    def history(self) -> dict[int, dict[str, float]]:
        """Iteration -> what was logged there, in order; after a resume the later entry counts."""
        history = {}
        for line in self._text("metrics.json").splitlines():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:  # the line that a run was stopped in, or is writing
                continue
            history.setdefault(entry.pop("iteration"), {}).update(entry)
        return dict(sorted(history.items()))

    def curve(self, name: str) -> tuple[list[int], list[float]]:
        """Iterations and values of a logged scalar."""
        points = [(i, entry[name]) for i, entry in self.history.items() if name in entry]
        return [i for i, _ in points], [value for _, value in points]

    @cached_property
    def losses(self) -> list[str]:
        """Names of what was minimised; ``total_loss`` comes first where it is the sum of several."""
        names = sorted({name for entry in self.history.values() for name in entry if name.startswith("loss_")})
        return ["total_loss", *names] if len(names) > 1 else names

    @cached_property
    def config(self) -> str:
        return self._text("config.yaml")

    @cached_property
    def settings(self) -> DictConfig:
        """``train`` of the configuration, which has to be there."""
        return OmegaConf.create(self.config).train

    @cached_property
    def duration(self) -> str:
        """Of the last start's training, as Detectron2 logs it: ``h:mm:ss``; "" where it has not come to an end."""
        found = re.findall(r"Total training time: (.*) \(", self._text("log.txt"))
        return found[-1] if found and self.done else ""  # it is logged at an interruption too

    @cached_property
    def commands(self) -> list[str]:
        """Command lines, one for each start, rebuilt from the arguments that Detectron2 logs."""
        found = re.findall(r"Command line arguments: (Namespace\(.*\))$", self._text("log.txt"), re.MULTILINE)
        return [_command(arguments) for arguments in found]

    @cached_property
    def versions(self) -> dict[str, str]:
        """Package -> version, and what is known of GPUs, as Detectron2 logged it at the last start."""
        environment = self._text("log.txt").rpartition("Environment info:")[2].partition("Command line arguments:")[0]
        lines = re.findall(r"^(\S.*?) {2,}(\S.*?)(?: @| \(|:|$)", environment, re.MULTILINE)
        return {name: value for name, value in lines if name.split()[0] in VERSIONS and "debug" not in name}

    @cached_property
    def class_names(self) -> list[str]:
        return [str(name) for name in self._scores["class_names"]] if self._scores else []

    @cached_property
    def counts(self) -> np.ndarray:
        """(K,) images of the test split that hold each class."""
        return (self._scores["labels"] == 1).sum(axis=0)

    @cached_property
    def temperatures(self) -> dict[str, np.ndarray]:
        """Learned temperatures by name, each (K,), (R,) or, where all share one, (1,); {} where none was learned."""
        path = self.folder / "model_final.pth"
        if not path.exists():
            return {}
        # Mapped, for of what may be a gigabyte the temperatures are a few hundred numbers.
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        state = checkpoint.get("trainer", {}).get("objectives", {})
        return {
            name: value.exp().reshape(-1).numpy()
            for key, value in state.items()
            for name in TEMPERATURES
            if key.endswith(f".temperatures.log_{name}")
        }

    @property
    def missing(self) -> str:
        """A sentence about what an unfinished run has done; "" for a finished one."""
        if self.done:
            return ""
        logged = f"its last logged iteration is {max(self.history)}" if self.history else "it has logged nothing yet"
        return f"{self.method}, {self.place}: not finished, {logged}."

    @cached_property
    def _scores(self) -> dict[str, np.ndarray]:
        path = self.folder / "inference" / "test" / "scores.npz"
        if not path.exists():
            return {}
        with np.load(path) as file:
            return {name: file[name] for name in ("labels", "class_names")}

    def _text(self, name: str) -> str:
        path = self.folder / name
        return path.read_text(errors="replace") if path.exists() else ""


def _command(namespace: str) -> str:
    given = {k.arg: ast.literal_eval(k.value) for k in ast.parse(namespace, mode="eval").body.keywords}
    words = ["python", "tools/train_net.py", "--config-file", given["config_file"]]
    words += [flag for flag in ("--resume", "--eval-only") if given[flag[2:].replace("-", "_")]]
    if given["num_gpus"] != 1:
        words += ["--num-gpus", str(given["num_gpus"])]
    return shlex.join([*words, *given["opts"]])
