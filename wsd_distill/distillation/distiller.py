"""The Distiller: a student to train, a frozen teacher that it does not own, and what the student minimises."""

from __future__ import annotations

import torch
from torch import nn

from wsd_distill.modeling import WSDDN, MultiLabelClassifier, WSDDNOutput
from wsd_distill.modeling.checkpoints import load_weights

from .objectives import Objectives, StudentOutput
from .teacher_cache import TeacherCache


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
        use_cache: in training the teacher's word is read from ``cache``, which the trainer fills before the first step;
            otherwise the teacher looks at every batch.
        cache: where what it says of the training images is kept.
    """

    def __init__(
        self,
        *,
        student: MultiLabelClassifier,
        teacher: WSDDN,
        teacher_checkpoint: str,
        objectives: Objectives,
        frozen: list[str] | None = None,
        use_cache: bool = False,
        cache: TeacherCache | None = None,
    ):
        super().__init__()
        if teacher.image_format != student.image_format:
            raise ValueError(
                f"the teacher expects {teacher.image_format} images and the student {student.image_format}, but both "
                "see the same: give them weights of one image_format"
            )
        load_weights(teacher, teacher_checkpoint)
        freeze(teacher)
        self._teacher_ref = (teacher,)  # a tuple is no submodule
        self.student = student
        self.objectives = objectives
        self.frozen = [student.get_submodule(name) for name in frozen or []]
        for module in self.frozen:
            freeze(module)
        self.cache = cache if use_cache else None

    @property
    def teacher(self) -> WSDDN:
        return self._teacher_ref[0]

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
        teacher = self._teacher_outputs([x["teacher"] for x in batched_inputs])
        student = StudentOutput(self.student, batched_inputs, self.student.features(batched_inputs))
        return {name: objective(student, teacher) for name, objective in self.objectives.items()}

    @property
    def teacher_features(self) -> list[str]:
        """The teacher's maps that the objectives compare with."""
        return sorted({name for objective in self.objectives.values() for name in objective.teacher_features})

    def fill_cache(self) -> None:
        """Let the teacher look at the training images that its cache does not know."""
        if self.cache is not None:
            self.cache.fill(self.teacher, self.teacher_features)

    def _teacher_outputs(self, views: list[dict]) -> WSDDNOutput:
        if self.cache is None:
            return self.run_teacher(views)
        return self.cache.read(views, self.teacher_features, self.student.device)

    @torch.no_grad()
    def run_teacher(self, batched_inputs: list[dict]) -> WSDDNOutput:
        """What the frozen teacher says of a batch, on the student's device."""
        if self.teacher.device != self.student.device:
            self.teacher.to(self.student.device)
        return self.teacher.compute_outputs(batched_inputs)

    def scalars(self) -> dict[str, float]:
        """What objectives want in the log beside their losses."""
        found = {}
        for objective in self.objectives.values():
            if hasattr(objective, "scalars"):
                found.update(objective.scalars())
        return found
