"""Checkpoints of a run and of what it was before it was resumed."""

from __future__ import annotations

import re
from pathlib import Path

from detectron2.engine import hooks


class ResumableCheckpointer(hooks.PeriodicCheckpointer):
    """Detectron2's hook, which alone knows only the files that it wrote itself: each resume would leave one more.

    Where a run goes on, the newest ``max_to_keep`` of its periodic files (``model_0000499.pth``) stay, to be removed in
    their turn; older ones go. No file of a later iteration is touched: it is another run's. The trainer is told which
    one is the last.
    """

    def before_train(self) -> None:
        super().before_train()
        if self.trainer.start_iter == 0:
            return
        self.trainer.last_checkpoint = self.checkpointer.get_checkpoint_file()
        if self.max_to_keep is None:
            return
        self.recent_checkpoints = self._written_before(self.trainer.start_iter)
        while len(self.recent_checkpoints) > self.max_to_keep:
            self.path_manager.rm(self.recent_checkpoints.pop(0))

    def after_step(self) -> None:
        super().after_step()
        if (self.trainer.iter + 1) % self.period == 0:
            self.trainer.last_checkpoint = self.checkpointer.get_checkpoint_file()

    def _written_before(self, iteration: int) -> list[str]:
        """Periodic files of earlier iterations, the oldest first."""
        found = []
        for path in Path(self.checkpointer.save_dir).iterdir():
            number = re.fullmatch(rf"{re.escape(self.file_prefix)}_(\d{{7}})\.pth", path.name)
            if number and int(number[1]) < iteration:
                found.append(str(path))
        return sorted(found)
