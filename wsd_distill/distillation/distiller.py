"""The Distiller: trains a student with the outputs of a frozen teacher."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import cast

import torch
from detectron2.utils import comm
from torch import Tensor, nn
from tqdm import tqdm

from wsd_distill.data.training_data import TrainingData
from wsd_distill.engine.run_folder import as_list
from wsd_distill.modeling import WSDDN, MultiLabelClassifier, WSDDNOutput
from wsd_distill.modeling.freezing import freeze

from .cross_fitting import Teachers, check_folds, check_whole
from .objectives.objective import Objective, Objectives, StudentOutput
from .teacher_cache import TeacherCache
from .views import Teacher, run_teacher, show_outputs


class Distiller(nn.Module):
    """Trains ``student`` on the sum of ``objectives``; at test time it is the student.

    The teacher is deliberately not a submodule: it is absent from ``state_dict``, from the optimizer and from
    DistributedDataParallel, and ``train()`` does not affect it.

    Args:
        student: S-Cls.
        teacher: T-WDet, or a classifier where objectives use its feature maps only; ``teacher_checkpoint`` is loaded
            into it. It sees the whole images, not mirrored, whatever part of them the student's views show.
        teacher_checkpoint: checkpoint of the teacher's training, or ImageNet weights for a classifier. A list of K:
            outputs for the images of fold i come from the i-th, whose training has left them out (``check_folds``).
        objectives: terms of the loss.
        use_cache: in training, teacher outputs are read from ``cache``, which the trainer fills before the first step;
            otherwise the teacher runs on every batch.
        cache: teacher outputs for the training images.
        trunk_checkpoint: weights for a second backbone like the teacher's, for example those that the teacher started
            from: its feature maps become the mean of both. None: its own.

    Raises:
        ValueError: Teacher and student expect different channel orders, a backbone lacks a feature map that an
            objective names, or an objective needs scores of regions and the teacher is a classifier.
            One teacher for each fold has no cache, or was not trained without its fold.
        CheckpointError: A checkpoint does not fit the teacher.
    """

    def __init__(
        self,
        *,
        student: MultiLabelClassifier,
        teacher: Teacher,
        teacher_checkpoint: str | Sequence[str],
        objectives: Objectives,
        use_cache: bool = False,
        cache: TeacherCache | None = None,
        trunk_checkpoint: str | None = None,
    ):
        super().__init__()
        if teacher.image_format != student.image_format:
            raise ValueError(
                f"the teacher expects {teacher.image_format} images and the student {student.image_format}, but one "
                "mapper reads the images of both: use weights with the same image_format"
            )
        for name, objective in objectives.items():
            if objective.needs_scores and not isinstance(teacher, WSDDN):
                raise ValueError(
                    f"objective {name} uses the scores of regions, which only T-WDet has: set distiller.teacher to a "
                    "WSDDN, or choose objectives on feature maps, and unset loss_hard's unknown_above and visible_below"
                )
        checkpoints = as_list(teacher_checkpoint)
        if len(checkpoints) != 1:
            if not use_cache or cache is None:
                raise ValueError(
                    f"distiller.teacher_checkpoint has {len(checkpoints)} files, one for each fold of the images, "
                    "which only the teacher cache keeps apart: set distiller.use_cache=True, or give one file"
                )
            check_folds(checkpoints, cache.dataset)
        self.teachers = Teachers(teacher, checkpoints, trunk_checkpoint)
        next(iter(self.teachers))
        if len(checkpoints) == 1:
            check_whole(checkpoints[0])
        freeze(teacher)
        self.student = student
        self.objectives = objectives
        for objective in self._objectives():
            objective.build(student.backbone.output_shape(), teacher.backbone.output_shape())
        self.cache = cache if use_cache else None

    @property
    def teacher(self) -> Teacher:
        """The frozen teacher; of several, the one that was used last."""
        return self.teachers.teacher

    def check_data(self, data: TrainingData) -> None:
        """Raise ValueError if an objective or the teacher cache cannot be used with these batches."""
        if self.cache is not None:
            self.cache.check_size()
        for objective in self._objectives():
            objective.check_data(data, self.student)

    def forward(self, batched_inputs: list[dict]) -> dict[str, Tensor] | list[dict]:
        """Compute the losses in training, the student's predictions otherwise.

        Args:
            batched_inputs: outputs of MultiLabelMapper with ``image``, ``proposals``, ``labels`` and ``teacher``.

        Returns:
            In training loss name -> scalar; otherwise the outputs of the student.
        """
        if not self.training:
            return self.student(batched_inputs)
        student, teacher = self._compute(batched_inputs)
        return {name: objective(student, teacher) for name, objective in self.objectives.items()}

    def _compute(self, batched_inputs: list[dict]) -> tuple[StudentOutput, WSDDNOutput]:
        views = [x["teacher"] for x in batched_inputs]
        if self.cache is None:
            teacher = self.run_teacher(views)
        else:
            teacher = self.cache.read(views, self.teacher_features, self.student.device)
        student = StudentOutput(self.student, batched_inputs, self.student.features(batched_inputs))
        return student, show_outputs(teacher, batched_inputs)

    @property
    def teacher_features(self) -> list[str]:
        """Names of the teacher's feature maps used by the objectives."""
        return sorted({name for objective in self._objectives() for name in objective.teacher_features})

    @property
    def needs_scores(self) -> bool:
        """Whether an objective uses the scores of the teacher's regions."""
        return any(objective.needs_scores for objective in self._objectives())

    def fill_cache(self) -> None:
        """Run the teacher on training images missing from the cache."""
        if self.cache is not None:
            self.teachers.to(self.student.device)
            self.cache.fill(self.teachers, self.teacher_features, self.needs_scores, self.teachers.trunk)

    @torch.no_grad()
    def fit_objectives(self, loader: Iterable[list[dict]]) -> None:
        """Let objectives that start from statistics of the training images compute them.

        Args:
            loader: endless batches of this rank, as in training.
        """
        objectives = [objective for objective in self._objectives() if objective.fit_images]
        if not objectives:
            return
        wanted = max(objective.fit_images for objective in objectives)
        buffers = {name: value.clone() for name, value in self.student.named_buffers()}
        batches = iter(loader)
        hidden = not comm.is_main_process()
        with tqdm(total=wanted, desc="feature statistics", unit="image", disable=hidden) as progress:
            seen = 0  # not progress.n: a bar that is not shown does not count
            while seen < wanted:
                batch = next(batches)
                outputs = self._compute(batch)
                for objective in objectives:
                    objective.fit_step(*outputs)
                images = len(batch) * comm.get_world_size()
                seen += images
                progress.update(min(images, wanted - progress.n))
        for name, value in self.student.named_buffers():  # BatchNorm has seen the images, as in training
            value.copy_(buffers[name])
        for objective in objectives:
            objective.fit_end()

    @torch.no_grad()
    def run_teacher(self, batched_inputs: list[dict]) -> WSDDNOutput:
        """Compute the frozen teacher's outputs for a batch, on the student's device.

        Raises:
            ValueError: they are not finite; names the image.
        """
        self.teachers.to(self.student.device)
        return run_teacher(self.teacher, batched_inputs, self.needs_scores, self.teachers.trunk)

    def scalars(self) -> dict[str, float]:
        """Return values of all objectives to log besides the losses."""
        return {name: value for objective in self._objectives() for name, value in objective.scalars().items()}

    def _objectives(self) -> Iterator[Objective]:
        return (cast(Objective, objective) for objective in self.objectives.values())
