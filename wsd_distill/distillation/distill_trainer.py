"""Training of a Distiller."""

from __future__ import annotations

from collections.abc import Callable

from wsd_distill.engine import Trainer


class DistillTrainer(Trainer):
    """Trainer of a Distiller: checks the teacher, fills its cache, logs temperatures, keeps what the student has not.

    The student's weights are the checkpoint's ``model``; objectives with weights of their own (temperatures, adapters)
    go into this trainer's state, so that the file of a stage is a file of a plain S-Cls.

    Args:
        gate: called with the teacher before the first step; raises where the teacher is of no use.
        Others as Trainer.
    """

    def __init__(self, model, data_loader, optimizer, *, gate: Callable, **options):
        super().__init__(model, data_loader, optimizer, **options)
        self.gate = gate

    def before_train(self) -> None:
        self.gate(self.unwrapped_model.teacher.to(self.unwrapped_model.student.device))
        self.unwrapped_model.fill_cache()
        super().before_train()

    def run_step(self) -> None:
        super().run_step()
        self.storage.put_scalars(**self.unwrapped_model.scalars())

    def state_dict(self) -> dict:
        return {**super().state_dict(), "objectives": self.unwrapped_model.objectives.state_dict()}

    def load_state_dict(self, state_dict: dict) -> None:
        super().load_state_dict(state_dict)
        self.unwrapped_model.objectives.load_state_dict(state_dict["objectives"])
