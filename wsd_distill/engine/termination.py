"""SIGTERM: a training saves a checkpoint before it ends, anything else ends at once."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from detectron2.engine import HookBase
from detectron2.utils import comm

from .hooks import ResumableCheckpointer

logger = logging.getLogger(__name__)

EXIT_CODE = 128 + signal.SIGTERM  # 143, as of a process that the signal has killed


class Termination:
    """A block in which SIGTERM raises SystemExit(143), except where it is deferred; later signals are ignored.

    Attributes:
        requested: whether the signal has arrived.
    """

    def __init__(self) -> None:
        self.requested = self._deferred = False

    def __enter__(self) -> Termination:
        self._previous = signal.signal(signal.SIGTERM, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGTERM, self._previous)

    def _handle(self, number: int, frame: object) -> None:
        first, self.requested = not self.requested, True
        if first and not self._deferred:
            sys.exit(EXIT_CODE)

    def defer(self) -> None:
        """From now on a signal only sets ``requested``."""
        self._deferred = True

    @contextmanager
    def immediate(self) -> Iterator[None]:
        """Raise SystemExit in this block; also if the signal arrived before it."""
        self._deferred = False
        try:
            if self.requested:
                sys.exit(EXIT_CODE)
            yield
        finally:
            self._deferred = True


class TerminationHook(HookBase):
    """Save a checkpoint after the step in which any rank got SIGTERM, and raise SystemExit(143) on all ranks.

    Args:
        termination: the block around the training.
        checkpointer: hook that saves the checkpoints, registered before this one; None except on the main process.
        command: how to resume, for the log.
    """

    def __init__(self, termination: Termination, checkpointer: ResumableCheckpointer | None, command: str):
        self.termination, self.checkpointer, self.command = termination, checkpointer, command

    def before_train(self) -> None:
        self.trainer.should_stop = lambda: self.termination.requested

    def before_step(self) -> None:
        self.termination.defer()

    def after_step(self) -> None:
        if self.trainer.stopping:
            self.save()
            sys.exit(EXIT_CODE)

    def save(self) -> None:
        """Save a checkpoint of the step just done, unless there is one; wait for it on all ranks."""
        if self.checkpointer is not None:
            self.checkpointer.save_now()
            logger.info(
                "SIGTERM: ended after iteration %d; its checkpoint is saved. To continue: %s",
                self.trainer.iter,
                self.command,
            )
        comm.synchronize()
