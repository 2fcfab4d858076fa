"""Checkpoints of a training: atomic and finite when saved, strict when loaded."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from torch import Tensor, nn

from wsd_distill.io import atomic_write
from wsd_distill.modeling import NormalizedImageModel
from wsd_distill.modeling.checkpoints.load import (
    CheckpointError,
    get_state,
    name_key,
    read_state,
    read_weights,
    wrap_mismatch,
)
from wsd_distill.modeling.normalization import list_first

logger = logging.getLogger(__name__)

_NAME = re.compile(r"(.+)_(\d{7}|final)\.pth")


class Checkpointer:
    """Saves and loads a model and what trains it, in the files of Detectron2's checkpointer.

    Detectron2's PeriodicCheckpointer can use it. Other than Detectron2's, it reads no code from files, writes them
    atomically, never overwrites a checkpoint by weights that are not finite, and raises an error where weights do not
    fit.

    Args:
        model: without its DistributedDataParallel wrapper.
        save_dir: folder of the run.
        new_layers: names of submodules that initial weights may lack; T-WDet and S-Cls have their classification layers
            besides.
        saved_model: returns the model whose weights are saved, by default ``model``, into which a resume loads them.
        checkpointables: name -> object with ``state_dict`` and ``load_state_dict``, restored by a resume after the
            model.
    """

    def __init__(
        self,
        model: nn.Module,
        save_dir: str,
        *,
        new_layers: Sequence[str] = (),
        saved_model: Callable[[], nn.Module] | None = None,
        **checkpointables: Any,
    ):
        self.saved_model = saved_model or (lambda: model)
        self.model, self.save_dir, self.checkpointables = model, save_dir, checkpointables
        self.new_layers = tuple(f"{name}." for name in new_layers)
        if isinstance(model, NormalizedImageModel):
            model.new_layers = (*model.new_layers, *new_layers)
        self.path_manager = PathManager  # read by PeriodicCheckpointer

    def save(self, name: str, **extra: Any) -> None:
        """Write ``<save_dir>/<name>.pth`` and name it in ``last_checkpoint``, on the main process only.

        Raises:
            FloatingPointError: a weight is not finite; nothing was written.
        """
        if not comm.is_main_process():
            return
        file = Path(self.save_dir) / f"{name}.pth"
        state = self.saved_model().state_dict()
        _check_finite(state, file)
        others = {key: value.state_dict() for key, value in self.checkpointables.items()}
        with atomic_write(file) as tmp_path, open(tmp_path, "wb") as output:
            torch.save({"model": state, **others, **extra}, output)
        self._set_last(file)

    def has_checkpoint(self) -> bool:
        """Whether the folder has a checkpoint to resume from."""
        return self.get_checkpoint_file() != ""

    def get_checkpoint_file(self) -> str:
        """Return the path of the last checkpoint, the newest one if ``last_checkpoint`` names none; "" without one."""
        folder = Path(self.save_dir)
        name = Path(self._last_file).read_text(errors="replace").strip() if os.path.isfile(self._last_file) else ""
        if re.fullmatch(r"[\w./ -]+\.pth", name):
            return str(folder / name)
        files = [folder / "model_final.pth", *sorted(folder.glob(f"model_{'[0-9]' * 7}.pth"), reverse=True)]
        found = next((str(file) for file in files if file.exists()), "")
        if found:
            logger.warning("%s is missing or damaged: taking the newest checkpoint, %s", self._last_file, found)
        return found

    def resume_or_load(self, path: str, *, resume: bool) -> None:
        """Resume from the last checkpoint if ``resume`` is set and there is one; otherwise load the weights ``path``.

        Raises:
            FileNotFoundError, CheckpointError: see :meth:`resume` and :meth:`load`.
            ValueError: a T-WDet or S-Cls has no class names, so that its checkpoints could not be used.
        """
        if resume and self.has_checkpoint():
            self.resume()
        else:
            self.load(path)
        if isinstance(self.model, NormalizedImageModel) and self.model.class_names is None:
            raise ValueError("the model has no class names: set class_names=${dataset.class_names} in its config")

    def load(self, path: str) -> None:
        """Load initial weights into the model; "" keeps the random ones.

        Raises:
            FileNotFoundError: the file does not exist.
            CheckpointError: the file cannot be read or does not fit the model.
        """
        if not path:
            logger.info("No train.init_checkpoint: training starts from random weights")
            return
        logger.info("Loading initial weights from %s", path)
        with name_key("train.init_checkpoint"):
            state = read_state(path)
            if not isinstance(self.model, NormalizedImageModel):
                self._check_keys(state, path)
            with wrap_mismatch(path):
                self.model.load_state_dict(state, strict=False)

    def resume(self) -> None:
        """Restore model and checkpointables from the last checkpoint; if it is damaged, from the one before.

        Raises:
            CheckpointError: no checkpoint can be read, or it is of another model.
        """
        problems = []
        for file in self._candidates():
            try:
                content = self._read(file)
            except (CheckpointError, FileNotFoundError) as error:
                problems.append(str(error))
                continue
            if problems:
                logger.warning("%s. Resuming from the checkpoint before it, %s", ". ".join(problems), file)
            self._restore(content, file)
            comm.synchronize()
            if problems and comm.is_main_process():
                self._set_last(file)
            return
        text = "; ".join(problems)
        raise CheckpointError(f"no checkpoint in {self.save_dir} can be read ({text}): train again without --resume")

    def _read(self, file: Path) -> dict:
        content = read_weights(file)
        if not isinstance(content, dict):
            raise CheckpointError(f"{file} is not a checkpoint of a training")
        missing = [key for key in ("model", *self.checkpointables) if key not in content]
        if missing:
            raise CheckpointError(f"{file} has no {missing[0]!r}, so it is not a checkpoint of a training")
        return content

    def _restore(self, content: dict, file: Path) -> None:
        logger.info("Resuming from %s", file)
        hint = ". --resume continues the same training: undo the change, or train in another train.output_dir"
        with wrap_mismatch(str(file), hint):
            self.model.load_state_dict(get_state(content, str(file)), strict=True)
        for key, value in self.checkpointables.items():
            try:
                value.load_state_dict(content[key])
            except (RuntimeError, ValueError, KeyError) as error:
                text = " ".join(str(error).split())
                raise CheckpointError(
                    f"{file}: the state of the {key} does not fit this config: {text}{hint}"
                ) from error

    def _candidates(self) -> Iterator[Path]:
        """Yield the last checkpoint and the periodic ones before it, latest first."""
        last = Path(self.get_checkpoint_file())
        yield last
        name = _NAME.fullmatch(last.name)
        if name:
            files = sorted(Path(self.save_dir).glob(f"{name[1]}_{'[0-9]' * 7}.pth"), reverse=True)
            yield from (file for file in files if name[2] == "final" or file.name < last.name)

    def _check_keys(self, state: dict[str, Tensor], path: str) -> None:
        """Require all weights of the model in ``state``, except for new layers that it lacks as a whole."""
        own = self.model.state_dict()
        is_initial = not any(key.startswith(self.new_layers) for key in state) if self.new_layers else False
        lacking = {key for key in own if key not in state and not (is_initial and key.startswith(self.new_layers))}
        lacking |= {key for key in own.keys() & state.keys() if own[key].shape != state[key].shape}
        further = set() if is_initial else state.keys() - own.keys()
        texts = {"missing or of another shape": lacking, "not in the model": further}
        listed = [f"{len(keys)} keys {text}: {list_first(keys)}" for text, keys in texts.items() if keys]
        if listed:
            raise CheckpointError(f"{path} does not fit the model of this config: {'; '.join(listed)}")

    @property
    def _last_file(self) -> str:
        return os.path.join(self.save_dir, "last_checkpoint")

    def _set_last(self, file: Path) -> None:
        with atomic_write(self._last_file) as tmp_path:
            tmp_path.write_text(file.name)


def _check_finite(state: dict[str, Tensor], file: Path) -> None:
    """Raise FloatingPointError if a weight is NaN or infinite."""
    bad = [key for key, value in state.items() if value.is_floating_point() and not value.isfinite().all()]
    if bad:
        raise FloatingPointError(
            f"{file} was not written: {len(bad)} of the model's weights are not finite ({', '.join(bad[:3])}). The "
            "training has diverged: lower optimizer.lr and start from an earlier checkpoint"
        )
