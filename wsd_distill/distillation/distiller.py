"""The Distiller: trains a student with the outputs of a frozen teacher."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn

from wsd_distill.modeling import WSDDN, MultiLabelClassifier, WSDDNOutput
from wsd_distill.modeling.checkpoints.load import load_weights

from .objectives.objective import Objective, Objectives, StudentOutput
from .teacher_cache import TeacherCache, check_finite


def freeze(module: nn.Module) -> None:
    """Set eval mode (dropout and BatchNorm included) and disable all gradients."""
    module.eval()
    module.requires_grad_(False)


class Distiller(nn.Module):
    """Trains ``student`` on the sum of ``objectives``; at test time it is the student.

    The teacher is deliberately not a submodule: it is absent from ``state_dict``, from the optimizer and from
    DistributedDataParallel, and ``train()`` does not affect it.

    Args:
        student: S-Cls.
        teacher: T-WDet; ``teacher_checkpoint`` is loaded into it.
        teacher_checkpoint: checkpoint of T-WDet's training.
        objectives: terms of the loss.
        frozen: names of student submodules to keep fixed, BatchNorm statistics included.
        use_cache: in training, teacher outputs are read from ``cache``, which the trainer fills before the first step;
            otherwise the teacher runs on every batch.
        cache: teacher outputs for the training images.

    Raises:
        ValueError: Teacher and student expect different channel orders, or a backbone lacks a feature map that an
            objective names.
        CheckpointError: The checkpoint does not fit the teacher.
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
                f"the teacher expects {teacher.image_format} images and the student {student.image_format}, but one "
                "mapper reads the images of both: use weights with the same image_format"
            )
        load_weights(teacher, teacher_checkpoint)
        freeze(teacher)
        self._teacher_ref = (teacher,)  # in a tuple, so that nn.Module does not register it
        self.student = student
        self.objectives = objectives
        for objective in self._objectives():
            objective.build(student.backbone.output_shape(), teacher.backbone.output_shape())
        self.frozen = [student.get_submodule(name) for name in frozen or []]
        for module in self.frozen:
            freeze(module)
        self.cache = cache if use_cache else None

    @property
    def teacher(self) -> WSDDN:
        """The frozen T-WDet."""
        return self._teacher_ref[0]

    def forward(self, batched_inputs: list[dict]) -> dict[str, Tensor] | list[dict]:
        """Compute the losses in training, the student's predictions otherwise.

        Args:
            batched_inputs: outputs of MultiLabelMapper with ``image``, ``proposals``, ``labels`` and ``teacher``.

        Returns:
            In training loss name -> scalar; otherwise the outputs of the student.
        """
        if not self.training:
            return self.student(batched_inputs)
        for module in self.frozen:
            module.eval()  # train() of this module, or of the student after an evaluation, has reset it
        views = [x["teacher"] for x in batched_inputs]
        if self.cache is None:
            teacher = self.run_teacher(views)
        else:
            teacher = self.cache.read(views, self.teacher_features, self.student.device)
        student = StudentOutput(self.student, batched_inputs, self.student.features(batched_inputs))
        return {name: objective(student, teacher) for name, objective in self.objectives.items()}

    @property
    def teacher_features(self) -> list[str]:
        """Names of the teacher's feature maps used by the objectives."""
        return sorted({name for objective in self._objectives() for name in objective.teacher_features})

    def fill_cache(self) -> None:
        """Run the teacher on training images missing from the cache."""
        if self.cache is not None:
            self.cache.fill(self.teacher, self.teacher_features)

    @torch.no_grad()
    def run_teacher(self, batched_inputs: list[dict]) -> WSDDNOutput:
        """Compute the frozen teacher's outputs for a batch, on the student's device.

        Raises:
            ValueError: they are not finite; names the image.
        """
        if self.teacher.device != self.student.device:
            self.teacher.to(self.student.device)
        output = self.teacher.compute_outputs(batched_inputs)
        check_finite(output, batched_inputs)
        return output

    def scalars(self) -> dict[str, float]:
        """Return values of all objectives to log besides the losses."""
        return {name: value for objective in self._objectives() for name, value in objective.scalars().items()}

    def _objectives(self) -> Iterator[Objective]:
        return (cast(Objective, objective) for objective in self.objectives.values())
