"""What every objective is, and what it is given of the student."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor, nn

from wsd_distill.modeling import MultiLabelClassifier


@dataclass
class StudentOutput:
    """S-Cls on a batch; its logits are computed only where an objective asks for them.

    Attributes:
        model: S-Cls. batched_inputs: what it was given. features: name -> (N, C, h, w).
    """

    model: MultiLabelClassifier
    batched_inputs: list[dict]
    features: dict[str, Tensor]

    @cached_property
    def logits(self) -> Tensor:
        """(N, K) m of Eq. 8."""
        return self.model.logits(self.features)


class Objective(nn.Module):
    """Called with the student's and the teacher's view of the same N images; gives one scalar."""

    @property
    def teacher_features(self) -> list[str]:
        """Names of T-WDet's feature maps that this objective looks at."""
        return []


class Objectives(nn.ModuleDict):
    """Objectives by the name of their loss (``loss_*``), in the form that a LazyConfig can write."""

    def __init__(self, **objectives: Objective):
        super().__init__(objectives)
