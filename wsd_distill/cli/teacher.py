"""The teacher of a model folder, for the boxes of ``wsd predict`` and ``wsd serve``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # it imports PyTorch
    from ..evidence import Evidence


def find_teacher(model: str | os.PathLike) -> Path | None:
    """Return the complete T-WDet run beside a model folder that wsd train has trained, or None."""
    results = sorted((Path(model).absolute().parent / "runs").glob("seed*/teacher/results.json"))
    return results[0].parent if results else None


def load_evidence(run: str | os.PathLike, classes: list[str], option: str = "--boxes") -> Evidence:
    """Load the T-WDet of a run; ValueError if its classes are not those of the model.

    Args:
        run: given with ``option``, which the error names.
        classes: of the model.
    """
    import wsd_distill.data.datasets  # noqa: F401  (it patches Detectron2 0.6, and registers datasets)

    from ..class_names import describe_difference
    from ..evidence import Evidence

    evidence = Evidence.load(run)
    if evidence.class_names != classes:
        difference = describe_difference(classes, evidence.class_names, "the model has", "it has")
        raise ValueError(f"{option} {run}: other classes: {difference}: give the T-WDet of the same photos")
    return evidence
