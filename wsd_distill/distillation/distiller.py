"""The Distiller: a student to train, a frozen teacher that it does not own, and what the student minimises."""

from __future__ import annotations

import pickle

import torch
from detectron2.utils.file_io import PathManager
from torch import nn

from wsd_distill.modeling import WSDDN, MultiLabelClassifier, WSDDNOutput

from .objectives import Objectives, StudentView


class TeacherCheckpointError(RuntimeError):
    """The teacher's checkpoint cannot be read, or does not fill exactly the teacher's parameters and buffers."""


def load_teacher(teacher: nn.Module, checkpoint: str) -> None:
    """Load ``checkpoint`` into ``teacher``, every key matched, and freeze it.

    Raises:
        FileNotFoundError: no such file. TeacherCheckpointError: names every missing, unexpected or misshapen key,
            or the file where it cannot be read.
    """
    state, own = _read(checkpoint), teacher.state_dict()
    problems = [f"missing: {key}" for key in own if key not in state]
    problems += [f"unexpected: {key}" for key in state if key not in own]
    problems += [
        f"shape of {key}: {tuple(state[key].shape)} in the file, {tuple(own[key].shape)} in the model"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    if problems:
        raise TeacherCheckpointError(
            f"{checkpoint} does not fit the teacher of this config:\n  " + "\n  ".join(problems)
        )
    try:
        teacher.load_state_dict(state)
    except RuntimeError as error:
        raise TeacherCheckpointError(f"{checkpoint} does not fit the teacher of this config: {error}") from error
    freeze(teacher)


def _read(checkpoint: str) -> dict[str, torch.Tensor]:
    """The weights in a file that Detectron2's checkpointer or ``torch.save`` wrote."""
    path = PathManager.get_local_path(checkpoint) if checkpoint else ""
    if not PathManager.isfile(path):
        raise FileNotFoundError(
            f"The teacher's checkpoint {checkpoint!r} is not a file. Train T-WDet first and give the file that it "
            "wrote as distiller.teacher_checkpoint=...; a distillation from a teacher without weights is worthless."
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise TeacherCheckpointError(f"{checkpoint} is no whole checkpoint, train T-WDet again: {error}") from error
    return content.get("model", content)


def freeze(module: nn.Module) -> None:
    """Eval mode (dropout and BatchNorm too) and no gradient for any parameter."""
    module.eval()
    module.requires_grad_(False)


class Distiller(nn.Module):
    """Trains ``student`` on a weighted sum of objectives; at test time it is the student.

    The teacher hangs outside the module tree: it is in no ``state_dict``, no optimizer and no DistributedDataParallel,
    and ``train()`` does not reach it.

    Args:
        student: S-Cls.
        teacher: T-WDet, loaded from ``teacher_checkpoint`` here.
        teacher_checkpoint: file that T-WDet's training wrote.
        objectives: what the student minimises, the sum of all.
        frozen: names of the student's submodules that this stage leaves alone, BatchNorm's statistics too.
    """

    def __init__(
        self,
        *,
        student: MultiLabelClassifier,
        teacher: WSDDN,
        teacher_checkpoint: str,
        objectives: Objectives,
        frozen: list[str] | None = None,
    ):
        super().__init__()
        if teacher.image_format != student.image_format:
            raise ValueError(
                f"the teacher expects {teacher.image_format} images and the student {student.image_format}, but both "
                "see the same: give them weights of one image_format"
            )
        load_teacher(teacher, teacher_checkpoint)
        self._outside = (teacher,)  # a tuple is no submodule
        self.student = student
        self.objectives = objectives
        self.frozen = [student.get_submodule(name) for name in frozen or []]
        for module in self.frozen:
            freeze(module)

    @property
    def teacher(self) -> WSDDN:
        return self._outside[0]

    def forward(self, batched_inputs: list[dict]):
        """
        Args:
            batched_inputs: dicts of MultiLabelMapper with ``image``, ``proposals``, ``labels`` and ``teacher``.

        Returns:
            In training name -> scalar loss; otherwise what the student returns.
        """
        if not self.training:
            return self.student(batched_inputs)
        for module in self.frozen:
            module.eval()  # train() has reached it, this module's or, after an evaluation, the student's
        teacher = self.teach([x["teacher"] for x in batched_inputs])
        student = StudentView(self.student, batched_inputs, self.student.features(batched_inputs))
        return {name: objective(student, teacher) for name, objective in self.objectives.items()}

    @torch.no_grad()
    def teach(self, batched_inputs: list[dict]) -> WSDDNOutput:
        """What the frozen teacher says of a batch, on the student's device."""
        if self.teacher.device != self.student.device:
            self.teacher.to(self.student.device)
        return self.teacher.extract(batched_inputs)

    def scalars(self) -> dict[str, float]:
        """What objectives want in the log beside their losses."""
        found = {}
        for objective in self.objectives.values():
            if hasattr(objective, "scalars"):
                found.update(objective.scalars())
        return found
