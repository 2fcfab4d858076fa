"""Interface and registry of proposal generators."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np

PROPOSERS: dict[str, type[Proposer]] = {}


class Proposer(ABC):
    """Computes class-agnostic object proposals of an image.

    Attributes:
        name: key in ``PROPOSERS``; also part of the file name of a proposal store.
        in_workers: whether the proposer can be pickled and copied to many worker processes; otherwise it runs in the
            main process only.
    """

    name: ClassVar[str]
    in_workers: ClassVar[bool] = True

    @property
    @abstractmethod
    def parameters(self) -> dict[str, Any]:
        """Everything the proposals depend on, for the metadata of a store (JSON)."""

    @abstractmethod
    def __call__(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Compute the proposals of an image.

        Args:
            image: (H, W, 3) uint8 RGB.

        Returns:
            Boxes (R, 4) float32 XYXY_ABS in pixels of ``image`` and scores (R,) float32, best first; R may be 0.
        """


def register_proposer(cls: type[Proposer]) -> type[Proposer]:
    """Class decorator: add a proposer to ``PROPOSERS`` under its ``name``.

    Raises:
        ValueError: the name is taken by another class.
    """
    if cls.name in PROPOSERS:
        raise ValueError(f"proposer '{cls.name}' is already registered ({PROPOSERS[cls.name].__name__})")
    PROPOSERS[cls.name] = cls
    return cls
