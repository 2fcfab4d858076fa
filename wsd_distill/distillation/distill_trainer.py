"""Trainer of a Distiller."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import cast

from wsd_distill.engine import Trainer
from wsd_distill.modeling import MultiLabelClassifier

from .distiller import Distiller
from .views import Teacher

logger = logging.getLogger(__name__)


class DistillTrainer(Trainer):
    """Trainer that checks the teacher, fills its cache, fits, logs and saves the objectives.

    The checkpoint's ``model`` is the student alone, a plain S-Cls, and only its weights are averaged. Learned weights
    of the objectives (temperatures, adapters) are saved in the trainer's state.

    Args:
        teacher_check: called with each teacher before the first step; raises if it is too weak. None: no check.
        model, data_loader, optimizer, **options: as in Trainer.
    """

    def __init__(self, model, data_loader, optimizer, *, teacher_check: Callable[[Teacher], object] | None, **options):
        super().__init__(model, data_loader, optimizer, **options)
        self.teacher_check = teacher_check

    @property
    def distiller(self) -> Distiller:
        """The model without its DistributedDataParallel wrapper."""
        return cast(Distiller, self.unwrapped_model)

    @property
    def raw_model(self) -> MultiLabelClassifier:
        """The student."""
        return self.distiller.student

    def before_train(self) -> None:
        if self.teacher_check is not None:
            self.distiller.teachers.to(self.distiller.student.device)
            for teacher in self.distiller.teachers:
                self.teacher_check(teacher)
        self.distiller.fill_cache()
        if self.start_iter == 0:
            self.distiller.fit_objectives(self.data_loader)
        super().before_train()

    def run_step(self) -> None:
        super().run_step()
        self.storage.put_scalars(**self.distiller.scalars())

    def results(self) -> dict[str, dict[str, float]]:
        """Return the values of objectives at the end of training, such as the temperatures reached."""
        scalars = self.distiller.scalars()
        return {"objectives": scalars} if scalars else {}

    def after_train(self) -> None:
        super().after_train()
        for name, value in self.distiller.scalars().items():
            logger.info("At the end of training, %s is %.4g", name, value)

    def state_dict(self) -> dict:
        return {**super().state_dict(), "objectives": self.distiller.objectives.state_dict()}

    def load_state_dict(self, state_dict: dict) -> None:
        super().load_state_dict(state_dict)
        self.distiller.objectives.load_state_dict(state_dict["objectives"])
