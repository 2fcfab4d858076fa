"""Interface of proposal generators."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np

from ...data.types import Proposals


class Proposer(ABC):
    """Computes class-agnostic object proposals of an image.

    Attributes:
        name: saved in the proposal stores that it generates.
        in_workers: whether it can be pickled and copied to worker processes; otherwise it runs in the main process.
    """

    name: ClassVar[str]
    in_workers: ClassVar[bool] = True

    def prepare(self) -> None:  # noqa: B027  (optional)
        """Read files and check dependencies, so that errors come before the first image.

        Raises:
            OSError, ValueError: something is missing; says how to get it.
        """

    @property
    @abstractmethod
    def parameters(self) -> dict[str, Any]:
        """Everything the proposals depend on, for the metadata of a store (JSON)."""

    @abstractmethod
    def __call__(self, image: np.ndarray) -> Proposals:
        """Compute the proposals of an image.

        Args:
            image: (H, W, 3) uint8 RGB.

        Returns:
            Boxes (R, 4) float32 XYXY_ABS in pixels of ``image`` and scores (R,) float32 in 0..1, best first; R may be
            0.
        """
